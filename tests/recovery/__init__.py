"""Tests of the gaps: what they are, and when they are written down."""
