"""Tests of the Pusher session: its parts, then the whole against scripts."""
