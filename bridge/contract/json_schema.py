"""
A JSON Schema (draft 2020-12) made from a record's type.

Owns how a schema's text is laid out. Which schemas there are stands in `published`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec


__all__ = ["PublishedSchema", "build"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# Keywords in the order in which a reader wants them; others follow by name.
_KEYWORD_ORDER: Final = (
    "$schema",
    "$id",
    "$ref",
    "title",
    "description",
    "type",
    "enum",
    "pattern",
    "minimum",
    "minLength",
    "maxLength",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "examples",
    "$defs",
)


class PublishedSchema(msgspec.Struct, frozen=True):
    """
    One file of `schemas/`.

    Attributes:
        file_name: Its name there.
        urn: Its `$id`; the number at its end changes with an incompatible change.
        title: What a documentation page calls it.
        record: The type that says what is in it.
        examples: Records of that type.
    """

    file_name: str
    urn: str
    title: str
    record: type[msgspec.Struct]
    examples: tuple[msgspec.Struct, ...]


def build(published: PublishedSchema) -> str:
    """
    Make the text of one schema.

    Args:
        published: Which one.

    Returns:
        Indented JSON in a fixed order, with a newline at its end.
    """
    generated = msgspec.json.schema(published.record)
    definitions = generated["$defs"]
    # msgspec names the record's own definition and refers to it; a reader of the
    # file wants it at the root.
    root = definitions.pop(published.record.__name__)
    root |= {
        "$schema": _DIALECT,
        "$id": published.urn,
        "title": published.title,
        # A docstring's lines are broken for an editor; paragraphs stay.
        "description": "\n\n".join(
            " ".join(paragraph.split())
            for paragraph in root["description"].split("\n\n")
        ),
        "additionalProperties": True,
        "examples": [msgspec.to_builtins(example) for example in published.examples],
    }
    if definitions:
        root["$defs"] = definitions
    return json.dumps(_ordered(root), indent=2, ensure_ascii=False) + "\n"


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    """Order the keywords of a schema and of those in it; members keep theirs."""
    ordered: dict[str, Any] = {}
    for keyword in sorted(schema, key=_rank):
        value = schema[keyword]
        if keyword in {"properties", "$defs"}:
            value = {name: _ordered(member) for name, member in value.items()}
        elif keyword == "anyOf":
            value = [_ordered(member) for member in value]
        ordered[keyword] = value
    return ordered


def _rank(keyword: str) -> tuple[int, str]:
    known = keyword in _KEYWORD_ORDER
    return (_KEYWORD_ORDER.index(keyword) if known else len(_KEYWORD_ORDER)), keyword
