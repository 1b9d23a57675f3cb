"""
`make chaos` and `make chaos-brokers`: what was committed reaches Kafka, whatever dies.

    python -m tests.chaos kills [--kills N] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos brokers [--only NAME,...] [--delivery MODE] [--rate N]

The bridge runs as its users run it, under a steady load through a real soketi into
a real Kafka. `kills` ends it again and again; `faults` lets brokers fail around it and
`drain` fills an outbox and empties it. `traffic` numbers the events, `verdict` judges
a topic by these numbers and by what the outbox's file showed while the bridge was
dead. Nothing here reaches into the bridge's process.
"""
