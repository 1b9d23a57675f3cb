"""
What reads topics for people and proofs, on the reader that `bridge.kafka` offers.

Nothing here writes to Kafka, and nothing asks the bridge: a consumer sees what
any other consumer would see.
"""
