"""
Reading topics: as a consumer follows them, or offset by offset as a proof needs it.

Owns what `bridge.consumer` reads with. It commits no offsets and joins no group.
"""
