"""What tests play with: real servers, processes, and what reads and judges topics.

Importable without pytest: the chaos commands, `make run` and the benchmarks start
their servers here. What judges the bridge imports nothing of it.
"""
