"""Tests of the HTTP clients' TLS, header fields and connections."""
