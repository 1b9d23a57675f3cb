"""Tests of the sandbox; with what only they need."""
