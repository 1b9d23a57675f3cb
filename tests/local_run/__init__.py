"""
`make run`: the main job on this machine, from a local dryAPI to a real Kafka.

    python -m tests.local_run [--for SECONDS] [--rate EVENTS_PER_SECOND]

It starts the sandbox, Apache Kafka, the bridge and the board as a user would, each as
a process in a session of its own, and shows the jobs as a consumer reads them. `run`
puts the parts together; `children` knows how each is started, `endpoints` how it is
asked, `ledger` and `summary` count and judge, `screen` and `guide` speak to people.
Nothing here reaches into the bridge's process.
"""
