"""dryAPI's job-status events, from Pusher to Kafka."""

__version__ = "0.1.0"
