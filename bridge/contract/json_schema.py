"""
A JSON Schema (draft 2020-12) made from a record's type.

Owns how a schema's text is laid out. Which schemas there are stands in `published`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec


__all__ = ["PublishedSchema", "build", "laid_out", "schema_of"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

# Keywords in the order in which a reader wants them; others follow by name.
_KEYWORD_ORDER: Final = (
    "$schema",
    "$id",
    "$ref",
    "title",
    "description",
    "type",
    "const",
    "enum",
    "format",
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
    One schema of `schemas/`.

    Attributes:
        name: What it is called, in its file's name and its `$id`.
        number: Its version, at the end of its `$id`: it changes when records may no
            longer be what readers of the number before were promised.
        title: What a documentation page calls it.
        record: The type that says what is in it.
        examples: Records of that type.
    """

    name: str
    number: int
    title: str
    record: type[msgspec.Struct]
    examples: tuple[msgspec.Struct, ...]

    @property
    def file_name(self) -> str:
        """Its file's name in `schemas/`."""
        return f"{self.name}.schema.json"

    @property
    def urn(self) -> str:
        """Its `$id`."""
        return f"urn:dryapi-kafka-bridge:{self.name}:{self.number}"


def build(published: PublishedSchema) -> str:
    """
    Make the text of one schema.

    Args:
        published: Which one.

    Returns:
        Indented JSON in a fixed order, with a newline at its end.
    """
    return laid_out(schema_of(published))


def laid_out(document: dict[str, Any]) -> str:
    """Give a document as text, indented, with a newline at its end."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schema_of(published: PublishedSchema) -> dict[str, Any]:
    """
    Make one schema.

    Args:
        published: Which one.

    Returns:
        The schema, its keywords in a fixed order.
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
    return _ordered(root)


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
