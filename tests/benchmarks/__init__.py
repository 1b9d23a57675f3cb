"""Tests of the benchmark's pure parts; its servers are tried by running it."""
