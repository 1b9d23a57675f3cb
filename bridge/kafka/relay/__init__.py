"""
From the outbox's lanes into the log, in order and once, whatever fails meanwhile.

`Relay` in `relay` is the door, `ports` what it asks of an outbox. What a producer does
stands in `bridge.kafka.producer`.
"""
