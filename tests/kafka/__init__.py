"""The room that speaks Kafka."""
