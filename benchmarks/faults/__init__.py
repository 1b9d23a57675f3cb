"""
`make bench-faults`: the bridge and its peers while soketi or Kafka is away.

`outages` lets servers fail, `course` runs one contender through it, `verdict` says
what became of each event that soketi took, `report` writes it down.
"""
