"""
The bridge's peers: what a user would otherwise write, or configure, for the same job.

Each is a program of its own and written as somebody would who knows its libraries
well; none shares code with the bridge. How they are started stands in `contenders`.
"""
