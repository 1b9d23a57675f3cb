"""Tests of what the bridge says about itself."""
