"""Tests of the Schema Registry: ids, subjects, and values in its wire format."""
