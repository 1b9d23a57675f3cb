"""Tests of the programs in `examples/`, against a real Kafka."""
