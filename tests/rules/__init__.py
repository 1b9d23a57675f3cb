"""Rules: tables and properties of what the bridge makes of its inputs."""
