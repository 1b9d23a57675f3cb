"""Tests of what is shown of dead letters, and of what may be replayed."""
