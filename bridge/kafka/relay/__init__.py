"""
From the outbox into Kafka, in order and once, whatever fails meanwhile.

`Relay` in `relay` is the public interface and commits. `epoch` is one loop for each
topic, and `idempotent` or `transactional` sends. `partition` has the state of one.
"""
