"""Tests of the board: what it knows, what it serves, and the command."""
