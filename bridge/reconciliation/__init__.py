"""
Reconciliation: what dryAPI's status endpoint is asked, so that no end is missed.

`reconciler.Reconciler` is the room's door: it asks about the jobs of gaps, and about
silent ones. Beside it, `order` says which job is next, `settlements` what became of a
gap's jobs, and `silent` who is silent; `client` asks, `answers` makes an event of an
answer; `budget` says when a call may be made, from `limits`, which an answer tells, and
`windows`, which count. The jobs, the outbox and the gaps stand behind `ports`.
"""
