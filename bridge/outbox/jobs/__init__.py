"""
Jobs: those in flight, those that have ended, and what order their events must have.

Owns the judgement of order and how both outlive the process.
"""
