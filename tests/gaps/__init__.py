"""Gaps, and what becomes of their jobs."""
