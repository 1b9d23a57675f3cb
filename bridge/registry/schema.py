"""
A topic's schema as the registry is to have it, and the subject it stands under.

Owns the strategies' rules, which are those of Confluent's serialiser for JSON
Schema; what a schema says belongs to whoever gives its text.
"""

from __future__ import annotations

from typing import Literal

import msgspec


__all__ = ["SubjectNaming", "TopicSchema", "subject_of"]

SubjectNaming = Literal["topic", "record", "topic-record"]


class _Titled(msgspec.Struct):
    """What of a schema names its record."""

    title: str


class TopicSchema(msgspec.Struct, frozen=True):
    """
    The schema of a topic's values.

    Attributes:
        text: The JSON Schema, as it is registered.
        file_name: The file of `schemas/` that holds it, for whoever registers it.
    """

    text: str
    file_name: str

    @property
    def record_name(self) -> str:
        """What Confluent's serialisers take for a JSON record's name: its title."""
        return msgspec.json.decode(self.text, type=_Titled).title


def subject_of(naming: SubjectNaming, topic: str, schema: TopicSchema) -> str:
    """Give the subject under which a topic's schema stands."""
    if naming == "topic":
        return f"{topic}-value"
    if naming == "record":
        return schema.record_name
    return f"{topic}-{schema.record_name}"
