"""
Measures the bridge beside other programs that read the same events, on real servers.

`python -m benchmarks` (`make bench`) compares them, `faults` lets servers fail,
`steady` watches memory, `verify` times `bridge verify`, `profile` shows where CPU time
goes.
"""
