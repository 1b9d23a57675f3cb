"""The payload: what passes, what is changed, what is refused."""
