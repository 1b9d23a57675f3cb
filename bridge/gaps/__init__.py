"""
Gaps: the intervals in which events may have been missed, and what heals them.

`ledger` keeps the gaps, `reconciler` asks dryAPI's status endpoint what became of their
jobs within the `limiter`'s bounds, and webhooks report ends by themselves.
"""
