"""
The outbox on disk: its directory, its file's tables, and looks at them from outside.

What the tables hold is `rows`' and `jobs`'. Nothing here is of a running outbox.
"""
