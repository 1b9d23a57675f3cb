"""
Makes texts safe to show: without secrets, and without control codes of terminals.

Messages are made without secrets. This module removes those in a library's exception or
an echoed request: known secrets by their value, those of one connection or one job by
their form.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote


__all__ = ["Redactor", "hide", "printable", "printable_json", "redact"]

_MARK: Final = "[hidden]"

# Shorter values occur in ordinary text.
_SHORTEST_SECRET: Final = 4

# Each rotation adds a value. Several thousand accounts fit; the oldest values go first.
_MOST_SECRETS: Final = 4096

# A signature is 64 hexadecimal digits, or the beginning of them in a message that was
# cut; Pusher servers repeat a wrong one. A result URL's signature is in its query, a
# password before a host. A preview is base64, mostly of a data URI. No pattern reads
# the same characters again and again.
_URL: Final = re.compile(r"""(:\\?/\\?/)([^\s"'<>]+)""")
_USER: Final = re.compile(r"^[^/\\?#@]*@")
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)
_FORMS: Final = (
    # Words are shorter.
    re.compile(r"([Bb]earer\s++)[\w.~+/|=-]{16,}"),
    re.compile(r"(base64,)[^\s\"'<>]+"),
    re.compile(r"()(?<![0-9A-Za-z+/])[0-9A-Za-z+/]{128,}={0,2}"),
    re.compile(r"()(?<![0-9A-Fa-f])[0-9A-Fa-f]{40,}"),
)


class Redactor:
    """A set of secrets that are replaced in texts; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, None] = {}
        self._spellings: tuple[str, ...] | None = ()

    def hide(self, value: str) -> None:
        """
        Hide a value from now on.

        Args:
            value: The secret, without white space around it; fewer than four characters
                are not hidden.
        """
        value = value.strip()
        if len(value) < _SHORTEST_SECRET:
            return
        with self._lock:
            self._values.pop(value, None)
            self._values[value] = None
            if len(self._values) > _MOST_SECRETS:
                del self._values[next(iter(self._values))]
            self._spellings = None

    def redact(self, text: str) -> str:
        """Return a text without hidden values, and without what looks like a secret."""
        for spelling in self._all_spellings():
            if spelling in text:
                text = text.replace(spelling, _MARK)
        text = _URL.sub(_without_credentials, text)
        for form in _FORMS:
            text = form.sub(rf"\1{_MARK}", text)
        return text

    def _all_spellings(self) -> tuple[str, ...]:
        """Return all spellings, the longest first: one may contain another."""
        spellings = self._spellings
        if spellings is None:
            with self._lock:
                found = {one for value in self._values for one in _escaped(value)}
                spellings = tuple(sorted(found, key=len, reverse=True))
                self._spellings = spellings
        return spellings


def _escaped(value: str) -> Iterator[str]:
    """Yield a value as it is in text, a `repr`, JSON, a URL and a traceback."""
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="", errors="replace")
    # A traceback indents the lines of a message.
    for line in value.splitlines():
        if len(line) >= _SHORTEST_SECRET:
            yield line


def _without_credentials(url: re.Match[str]) -> str:
    rest = _QUERY.sub(f"?{_MARK}", url[2])
    return url[1] + _USER.sub(f"{_MARK}@", rest)


_redactor = Redactor()
hide = _redactor.hide
redact = _redactor.redact


def printable(text: str, limit: int | None = None, *, keep: str = "") -> str:
    r"""
    Escape what a terminal would obey, and what no encoding has.

    Control characters, marks of the writing direction and lone surrogates become what
    Python writes for them, `\x1b` for instance.

    Args:
        text: Any text.
        limit: A longer text is cut and ends with an ellipsis.
        keep: Characters that stay as they are.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}…"
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in keep
        else char.encode("unicode_escape").decode()
        for char in text
    )


# All but what JSON and ASCII have no need to escape.
_MAY_COMMAND: Final = re.compile(r"[^\n -~]")


def printable_json(encoded: bytes) -> bytes:
    """
    Escape in JSON what a terminal would obey; a program reads the same values.

    Args:
        encoded: JSON in UTF-8.
    """
    return _MAY_COMMAND.sub(_json_escape, encoded.decode()).encode()


def _json_escape(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]
