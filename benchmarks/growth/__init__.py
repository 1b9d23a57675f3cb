"""
How the cost of an event grows: with accounts, rows that wait, partitions, and size.

`python -m benchmarks.growth` (or `make bench-growth`) measures, on the same course as
`make bench`; `python -m benchmarks.growth.page` (or `make plots`) writes the tables and
plots of docs/sizing.md from what was measured. `axes` says what is measured and what
flat means, `figures` keeps it.
"""
