"""
Writing a decoded JSON value down again, however deep it is nested.

Owns the text of a `data` member that came as a value instead of a string. It must
never fail where a decoder succeeded: it makes the bytes that a dead letter keeps.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple


__all__ = ["render"]


class _Text(NamedTuple):
    """A piece that is written as it is."""

    text: str


_COMMA: Final = _Text(",")
_END_OF_ARRAY: Final = _Text("]")
_END_OF_OBJECT: Final = _Text("}")


def render(value: object) -> str:
    """
    Write a JSON value as compact text, without recursion.

    Args:
        value: What a JSON decoder returns: dict, list, str, int, float, bool, None.

    Returns:
        The text. Halves of surrogate pairs stay in it; numbers that JSON doesn't
        have become `NaN` or `Infinity`, which no decoder of JSON takes.
    """
    written: list[str] = []
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _Text):
            written.append(item.text)
        elif isinstance(item, dict):
            written.append("{")
            pending.append(_END_OF_OBJECT)
            members = [(_Text(_scalar(name) + ":"), item[name]) for name in item]
            _push(pending, members)
        elif isinstance(item, list):
            written.append("[")
            pending.append(_END_OF_ARRAY)
            _push(pending, [(member,) for member in item])
        else:
            written.append(_scalar(item))
    return "".join(written)


def _push(pending: list[Any], groups: list[tuple[Any, ...]]) -> None:
    """Push groups, with commas between, so that the first is popped first."""
    for index in range(len(groups) - 1, -1, -1):
        pending.extend(reversed(groups[index]))
        if index:
            pending.append(_COMMA)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
