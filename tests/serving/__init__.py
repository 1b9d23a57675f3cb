"""Tests of ports: how they open and end, TLS, and what bad clients get."""
