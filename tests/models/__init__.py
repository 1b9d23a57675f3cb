"""Models of what the bridge should do, and the world that they live in."""
