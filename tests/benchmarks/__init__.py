"""A smoke test of each benchmark."""
