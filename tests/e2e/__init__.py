"""End to end: the bridge as a process between a real soketi and a real Kafka."""
