"""A smoke test of each benchmark, and of what judges their topics."""
