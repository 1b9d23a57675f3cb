"""
`make chaos`, `make soak` and their like: nothing is lost in silence, whatever fails.

    python -m tests.chaos kills [--kills N] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos brokers [--only NAME,...] [--delivery MODE] [--rate N]
    python -m tests.chaos soak [--for TIME] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos restarts [--times N] [--seed N] [--delivery MODE] [--rate N]
    python -m tests.chaos healing [--for TIME] [--seed N] [--delivery MODE]

The bridge runs as its users run it, from a real soketi to a real Kafka, behind a proxy
that can fail. There is one `course` for all commands, one table of `faults`, and one
`verdict`. `runs` says what each command does; `load` numbers the events,
`upstream` is a dryAPI with jobs whose `truth` it remembers, and `healing` is the part
of the verdict that demands each job's end. `witness` and `vitals` look on.
Nothing here reaches into the bridge's process.
"""
