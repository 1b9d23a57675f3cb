"""Consumers of the bridge's topics, and the whole chain on one machine (`local`)."""
