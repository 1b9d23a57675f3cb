"""Tests of what takes dryAPI's webhooks; what only they need stands beside them."""
