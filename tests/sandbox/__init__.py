"""Tests of the sandbox; what only they need stands beside them."""
