"""
Measures the bridge beside others that read the same events, on real servers.

`python -m benchmarks` (or `make bench`) runs everything. A contender is what is
measured, and one class in `contenders`; whatever judges it stands in the other
modules and knows none of them. The bridge is run as its users run it.
"""
