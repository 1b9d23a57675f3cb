"""
`make chaos`, `make soak` and their like: nothing is lost in silence, whatever dies.

    python -m tests.chaos kills [--kills N] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos brokers [--only NAME,...] [--delivery MODE] [--rate N]
    python -m tests.chaos soak [--for TIME] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos restarts [--times N] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos healing [--for TIME] [--seed N] [--delivery MODE]

The bridge runs as its users run it, under a steady load through a real soketi into
a real Kafka. `kills` ends it again and again; `faults` lets brokers fail around it and
`drain` fills an outbox and empties it. `traffic` numbers the events, `verdict` judges
a topic by these numbers and by what the outbox's file showed while the bridge was
dead.

`soak` lets everything fail, the session's side too, and `restarts` soketi alone. There
`ground` remembers what was emitted, and `soak_verdict` demands each event on the topic
or in a gap that was reported.

`healing` has a whole dryAPI (`upstream`) with jobs that end before, within and across
gaps. It remembers their `fates`; `healing_verdict` demands each end in Kafka, and
`healing_ledger` holds to it what gaps tell. Nothing here reaches into the bridge's
process.
"""
