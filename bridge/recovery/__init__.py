"""
Gaps: the times in which an event may have been missed, as records and as numbers.

`gap` says what a gap is and how it is published, `ledger` keeps the open ones and
writes each down when it opens and when it closes, `hearing` knows for one account
when that is so. What interrupts a session, and what the outbox gives up, isn't found
here: the service brings it.
"""
