"""Tests of the spans, and a collector that takes them."""
