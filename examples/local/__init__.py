"""
`make run`: the main job on this machine, from a local dryAPI to a real Kafka.

    python -m examples.local [--for SECONDS] [--rate EVENTS_PER_SECOND]

It starts the sandbox, Apache Kafka, the bridge and the board as a user would, each as
a process of its own, and shows the jobs as a consumer reads them. `run` puts the parts
together, `processes` starts each and asks it over HTTP, `counts` counts and judges,
`screen` writes to the terminal. The servers come from the development tree
(`tests.kit`): this isn't in the installed package.
"""
