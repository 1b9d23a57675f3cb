"""
Reconciliation: what dryAPI's status endpoint is asked, so that no end is missed.

`reconciler.Reconciler` is the room's door: it asks about the jobs of gaps, and about
silent ones, in one loop for each token, `asking`. Beside it, `order` says which job is
next, `settlements` what became of a gap's jobs, `silent` who is silent, and `endpoint`
whether there are answers; `client` asks, `answers` makes an event of an answer, and
`taking` has it written. `budget` says when a call may be made, from `limits`, which an
answer tells, and `windows`, which count. Jobs, outbox and gaps stand behind `ports`.
"""
