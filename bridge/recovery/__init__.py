"""
Gaps: the times in which an event may have been missed, as records and as numbers.

`gap` says what a gap is and how it is published, `ledger` keeps the open ones and
writes each down when it opens and when it closes. Where gaps come from is not known
here: the service brings what other rooms find to the ledger.
"""
