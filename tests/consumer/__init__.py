"""Tests of what reads topics for people and proofs."""
