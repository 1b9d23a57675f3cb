"""Models of the bridge, for orders of events that no test lists.

Each test drives a part of the bridge and a model of it through the same events, which
Hypothesis chooses, and compares them. What the state is, what must hold and what an
order costs is in its docstring; how many orders are tried is in `exploring`. That each
model fails on a defect is shown by `tests.mutants`.
"""
