"""Tests of which webhooks were taken, and of those that are held."""
