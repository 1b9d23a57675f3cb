"""From the outbox into the log."""
