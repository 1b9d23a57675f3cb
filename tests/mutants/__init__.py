"""Seeded defects of the bridge, and the tests that must catch each."""
