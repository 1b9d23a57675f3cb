"""One producer."""
