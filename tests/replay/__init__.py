"""Tests of the replay of dead letters."""
