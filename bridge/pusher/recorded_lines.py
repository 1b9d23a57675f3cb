"""
A recording's lines: what is noted of a wire, and how it is written down.

docs/recording.md describes them for readers. Whether and when they get into a file is
`recording`'s business.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import msgspec

from bridge import __version__
from bridge.pusher.redaction import Redactor
from bridge.pusher.websocket import Message
from bridge.settings import PusherSettings


__all__ = ["FORMAT", "Content", "Entry", "first_line", "line", "weight_of"]

FORMAT: Final = 1
"""Of the lines: another number for what an older replay would misread."""

# Beside its text, an entry of the queue takes about so much memory.
_ENTRY_BYTES: Final = 400

# From so many letters of a mask on, a run is written as the letter and its length.
_RUN: Final = re.compile(r"x{32,}")

# A message that is longer than this even so loses its middle, which becomes a run.
_MOST_CHARACTERS: Final = 64 * 1024
_HEAD_CHARACTERS: Final = 4096
_TAIL_CHARACTERS: Final = 1024

Content: TypeAlias = str | int | float | bool | None


class Entry(NamedTuple):
    """One line to be: what the session's side knows of it."""

    at: float
    kind: str
    connection: int = 0
    client_id: str | None = None
    message: Message | None = None
    sentence: str | None = None
    members: Mapping[str, Content] = MappingProxyType({})


def weight_of(entry: Entry) -> int:
    """Tell about how much memory an entry takes."""
    return _ENTRY_BYTES + sys.getsizeof(entry.message) + sys.getsizeof(entry.sentence)


def first_line(settings: PusherSettings) -> bytes:
    """
    Write the line that a recording begins with.

    Args:
        settings: Of the sessions; their numbers are noted, and nothing else of them.
    """
    numbers = {
        name: value
        for name, value in msgspec.structs.asdict(settings).items()
        if isinstance(value, int | float)
    }
    return _encoded(
        {
            "at": 0.0,
            "kind": "started",
            "format": FORMAT,
            "bridge": __version__,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": numbers,
        }
    )


def line(entry: Entry, redactor: Redactor) -> bytes:
    """
    Redact an entry and write it down.

    Args:
        entry: What was seen.
        redactor: Of this recording.
    """
    written: dict[str, object] = {"at": round(entry.at, 6), "kind": entry.kind}
    if entry.connection:
        written["connection"] = entry.connection
    if entry.client_id is not None:
        written["client"] = redactor.pseudonym(entry.client_id)
    written.update(entry.members)
    if entry.sentence is not None:
        written["message"] = redactor.sentence(entry.sentence)
    if isinstance(entry.message, str):
        written["text"] = _shortened(redactor.message(entry.message))
    elif entry.message is not None:
        # Nobody looks into one, and nothing is known of what it may hold.
        written["bytes"] = len(entry.message)
    return _encoded(written)


def _encoded(members: dict[str, object]) -> bytes:
    # ASCII alone: halves of surrogate pairs have no other form.
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


def _shortened(text: str) -> str | list[str | list[str | int]]:
    """Write runs as their character and length; of what is still too long, the ends."""
    parts = _parts(text)
    if sum(len(part) for part in parts if isinstance(part, str)) > _MOST_CHARACTERS:
        middle = len(text) - _HEAD_CHARACTERS - _TAIL_CHARACTERS
        head, tail = text[:_HEAD_CHARACTERS], text[-_TAIL_CHARACTERS:]
        return [head, ["x", middle], tail]
    return text if len(parts) == 1 and parts[0] == text else parts


def _parts(text: str) -> list[str | list[str | int]]:
    parts: list[str | list[str | int]] = []
    position = 0
    for match in _RUN.finditer(text):
        if match.start() > position:
            parts.append(text[position : match.start()])
        parts.append(["x", len(match[0])])
        position = match.end()
    if position < len(text) or not parts:
        parts.append(text[position:])
    return parts
