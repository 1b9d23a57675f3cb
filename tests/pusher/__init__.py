"""Tests of the Pusher session: its parts alone, then the whole against scripts."""
