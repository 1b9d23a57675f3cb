"""Real Apache Kafka and real soketi, from Python wheels and npm packages alone.

Importable without pytest: `make run`, the tests and the benchmarks start their
servers here. Nothing of the bridge may be imported in this folder, so that what
judges the bridge shares no code with it.
"""
