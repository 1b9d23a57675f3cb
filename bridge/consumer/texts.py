"""
Texts and times of records as people see them on a terminal.

Owns that nothing from a record reaches the terminal as a command to it: what isn't
printable is shown as an escape.
"""

from __future__ import annotations

from datetime import UTC, datetime

from bridge.text import printable


__all__ = ["plain", "utc"]

# A key or a message that is longer is cut: a hostile one must not push the rest
# from the screen.
_SHOWN_CHARACTERS = 200


def plain(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    r"""
    Show text so that no terminal takes any of it for a command.

    Control characters, escapes and the marks of the other writing direction become
    what Python writes for them, `\x1b` for instance.

    Args:
        text: Any text.
        limit: A longer one is cut and ends with an ellipsis.
    """
    return printable(text, limit)


def utc(timestamp_ms: int) -> str:
    """Write a record's timestamp, to the second; Kafka has -1 where there is none."""
    try:
        moment = datetime.fromtimestamp(timestamp_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
