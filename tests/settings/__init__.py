"""Settings: layers, messages, secrets."""
