"""
Topics: what they are like, what they must be like, and how they are made.

Owns the looks and the judgement. Nothing is written to a topic here.
"""
