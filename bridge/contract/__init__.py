"""
What the bridge promises to those who read its topics, as documents.

Owns the JSON Schemas of `schemas/`, made from the types of the records. What a
record holds is said where its type stands; nothing of it is repeated here.

    python -m bridge.contract            writes schemas/
    python -m bridge.contract --check    says what is stale and exits 1
"""

from __future__ import annotations

from bridge.contract.json_schema import PublishedSchema
from bridge.contract.published import PUBLISHED, text_of


__all__ = ["PUBLISHED", "PublishedSchema", "text_of"]
