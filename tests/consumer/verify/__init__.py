"""Tests of the proof that a topic is whole."""
