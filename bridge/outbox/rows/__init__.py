"""
Rows and their lanes: written, numbered, acknowledged, refused, taken out.

Each step belongs into a transaction of `store`.
"""
