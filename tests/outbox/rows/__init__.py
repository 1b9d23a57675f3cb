"""Rows and their lanes."""
