"""
From the outbox into Kafka, in order and once, whatever fails meanwhile.

`Relay` in `relay` is the door. An epoch is in `epoch`, what it sends in `idempotent` or
`transactional`, what it reads of the log in `tails`.
"""
