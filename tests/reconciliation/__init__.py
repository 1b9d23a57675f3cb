"""Tests of what asks dryAPI about jobs; what only they need stands beside them."""
