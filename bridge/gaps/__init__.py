"""
Gaps: the intervals in which events may have been missed, and their reconciliation.

`ledger` keeps the gaps. `reconciler` requests the status of their jobs from dryAPI,
within the limits of `limiter`. Webhooks report ends by themselves.
"""
