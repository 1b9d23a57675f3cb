"""
Gaps: the times in which an event may have been missed, as records and as numbers.

`gap` says what a gap is and how it is published, `ledger` keeps the open ones and
writes each down when it opens and when it closes, `closed` what becomes of its jobs
afterwards; `left` is what the process before left of both. `hearing` knows for one
account when a gap opens and closes. What interrupts a session, what the outbox gives
up, and how a job's end is learned, isn't found here: the service brings it.
"""
