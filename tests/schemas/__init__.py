"""Tests of bridge/contract."""
