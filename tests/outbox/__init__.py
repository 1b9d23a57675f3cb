"""Tests of the outbox; every one of them writes a real file."""
