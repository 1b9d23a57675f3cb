"""Tests of bridge/schemas."""
