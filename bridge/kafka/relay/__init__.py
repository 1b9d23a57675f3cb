"""
From the outbox into Kafka, in order and once, whatever fails meanwhile.

`Relay` in `relay` is the door and commits; `epoch` is one loop for each topic, and what
it sends is in `idempotent` or `transactional`. `partition` is what they work on.
"""
