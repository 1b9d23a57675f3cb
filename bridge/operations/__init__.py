"""
What the bridge says about itself: logs, metrics and health.

It reads the statistics of the other rooms through the protocols of `sources`
and counts nothing that belongs to them. No room is imported here.
"""
