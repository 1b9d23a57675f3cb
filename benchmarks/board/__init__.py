"""
What a board costs and how late it is: `make bench-board`.

The real `bridge board` reads a real topic while `writer` writes to it and `browsers`
are told. `load` says what is written, `runs` is one run, `figures` what it gave.
"""
