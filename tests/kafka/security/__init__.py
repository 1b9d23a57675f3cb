"""How the bridge signs in to a real broker that demands it, and what goes wrong."""
