"""
Keeps secrets out of text: the last line of defence, not the first.

Secrets are kept out of messages where messages are made. What slips through a
library's exception or an echoed request is caught here: by value what is known, by
its looks what is made for one connection or one job. What a secret is, and where it
is read from, belongs to the settings.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import quote


__all__ = ["Redactor", "hide", "redact"]

_MARK = "[hidden]"

# A shorter value occurs in ordinary text too often: replacing it would destroy
# the log without protecting anything that could not be guessed.
_SHORTEST_SECRET = 4

# Each rotation adds a value. Several thousand accounts fit; beyond that the
# values that were registered longest ago go first.
_MOST_SECRETS = 4096

# What is made for one connection or one job is known by its looks. A signature is 64
# hexadecimal digits, or the beginning of them in a sentence that was cut; Pusher's
# servers repeat the one that they don't accept. A result URL's signature stands in its
# query, a password in front of a host. A preview is base64, mostly of a data URI.
# None goes over the same characters again and again.
_ADDRESS = re.compile(r"""(:\\?/\\?/)([^\s"'<>]+)""")
_USER = re.compile(r"^[^/\\?#@]*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)
_LOOKS = (
    # Words are shorter.
    re.compile(r"([Bb]earer\s++)[\w.~+/|=-]{16,}"),
    re.compile(r"(base64,)[^\s\"'<>]+"),
    re.compile(r"()(?<![0-9A-Za-z+/])[0-9A-Za-z+/]{128,}={0,2}"),
    re.compile(r"()(?<![0-9A-Fa-f])[0-9A-Fa-f]{40,}"),
)


class Redactor:
    """A set of values and the means to blot them out of a text; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, None] = {}
        self._forms: tuple[str, ...] | None = ()

    def hide(self, value: str) -> None:
        """
        Blot out a value from now on.

        Args:
            value: The secret in clear. Surrounding white space is ignored;
                fewer than four characters are not hidden.
        """
        value = value.strip()
        if len(value) < _SHORTEST_SECRET:
            return
        with self._lock:
            self._values.pop(value, None)
            self._values[value] = None
            if len(self._values) > _MOST_SECRETS:
                del self._values[next(iter(self._values))]
            self._forms = None

    def redact(self, text: str) -> str:
        """
        Return a text without any hidden value, and without what looks like a secret.

        Args:
            text: Any text, for instance the message of an exception.
        """
        for form in self._all_forms():
            if form in text:
                text = text.replace(form, _MARK)
        text = _ADDRESS.sub(_bare, text)
        for looks in _LOOKS:
            text = looks.sub(rf"\1{_MARK}", text)
        return text

    def _all_forms(self) -> tuple[str, ...]:
        """All forms of all values, the longest first: one may contain another."""
        forms = self._forms
        if forms is None:
            with self._lock:
                found = {form for value in self._values for form in _escaped(value)}
                forms = tuple(sorted(found, key=len, reverse=True))
                self._forms = forms
        return forms


def _escaped(value: str) -> Iterator[str]:
    """Yield a value as it stands in text, a `repr`, JSON, a URL and a traceback."""
    yield value
    yield repr(value)[1:-1]
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="", errors="replace")
    # A traceback indents the lines of a message, and so tears a value apart.
    for line in value.splitlines():
        if len(line) >= _SHORTEST_SECRET:
            yield line


def _bare(address: re.Match[str]) -> str:
    """Give an address without user, password and query."""
    rest = _QUERY.sub(f"?{_MARK}", address[2])
    return address[1] + _USER.sub(f"{_MARK}@", rest)


_redactor = Redactor()
hide = _redactor.hide
redact = _redactor.redact
