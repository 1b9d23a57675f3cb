"""
What a recording of the wire may show: the shape of everything, the content of nothing.

The rule is that a text is masked unless it belongs to a closed vocabulary: letters
and digits are replaced, and what is kept is the protocol's own words and numbers of a
few digits. So no content gets through by being unforeseen, in a member without a
name, in JSON cut in the middle, or in no JSON at all: nothing here depends on a text
being well-formed, and nothing raises.

A mask has the length of what it hides, in characters and in UTF-8, and JSON stays the
JSON that it was: types, escapes, repeated members, mistakes. So a replay takes the same
way through the bridge. What has to be told apart (jobs, clients, names of members) gets
a pseudonym that is the same throughout one recording; its key is written nowhere.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from bridge.events.job_status import STATUSES, JobStatusRecord


__all__ = ["Redactor"]

_CLIENT_CHANNEL: Final = "private-client."

# Names of members that tell nothing about who uses them.
_KEYS: Final = frozenset(
    (
        *JobStatusRecord.__struct_fields__,
        *("activity_timeout", "auth", "channel", "channel_data", "code", "data"),
        *("error", "event", "message", "socket_id", "type", "user_id"),
    )
)

# The whole vocabulary of values, by the member that may have them.
_KEPT: Final = {
    "event": frozenset(
        {
            "request.status.updated",
            "pusher:connection_established",
            "pusher:error",
            "pusher:ping",
            "pusher:pong",
            "pusher:subscribe",
            "pusher:subscription_error",
            "pusher_internal:subscription_succeeded",
        }
    ),
    "status": frozenset({*STATUSES, "pending"}),
    "type": frozenset({"AuthError", "LimitReached", "ServerError"}),
    # What soketi 1.6 was seen to say.
    "message": frozenset(
        {
            "Server closed. Please reconnect shortly.",
            "Server is closing. Please reconnect shortly.",
        }
    ),
    "error": frozenset({"The connection is unauthorized."}),
}

_PSEUDONYMOUS: Final = frozenset({"event", "request_id", "socket_id", "user_id"})

# Codes, statuses and timeouts decide what the session does; five digits are no secret.
_NUMERIC: Final = frozenset({"activity_timeout", "code", "status"})
_SMALL_NUMBER: Final = re.compile(r"-?[0-9]{1,5}(?:\.[0-9])?")
_PERCENTAGE: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?")

# A string, with the colon that makes it a member's name, and with its end missing if
# the text ends before it; a number; a word. Possessive, so that no text is read twice.
_TOKEN: Final = re.compile(
    r'"(?P<inner>(?:[^"\\]++|\\.)*+\\?)(?P<end>"[ \t\n\r]*+(?P<colon>:)?|\Z)'
    r"|(?P<number>-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    r"|true|false|null|NaN|Infinity",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_ESCAPED: Final = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))

# An exponent of three digits says where a double ends.
_SHORT_EXPONENT: Final = 3
_ONES: Final = str.maketrans("23456789", "11111111")
_NINES: Final = str.maketrans("12345678", "99999999")

# Texts in texts: a frame, its data, and data that was encoded once too often. Each
# level doubles the backslashes of the one in it, and the bridge reads no further.
_DEEPEST: Final = 4

# A text with more tokens (an event has 12) is masked without looking for any more of
# them: it costs the thread 0.2 s until here.
_MOST_TOKENS: Final = 100_000

# Up to so many letters and digits two pseudonyms could well be the same by chance. A
# longer text than the last is no name of anything.
_SHORT: Final = 4
_LONGEST: Final = 1024
_MOST_SHORT: Final = 10_000
_TRIES: Final = 64

_ALPHABETS: Final = (
    "0123456789",
    "abcdef",  # apart, so that a UUID stays one
    "ghijklmnopqrstuvwxyz",
    "ABCDEF",
    "GHIJKLMNOPQRSTUVWXYZ",
)
_ALPHABET_OF: Final = {each: letters for letters in _ALPHABETS for each in letters}

_WORD: Final = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")

# The words of the sentences in `websocket`, `transport` and `authorizer`, and of the
# system's and OpenSSL's most frequent ones.
_WORDS: Final = frozenset(
    """
    Connection HTTP JSON Name Network No Operation Permission SSL TLS Temporary
    WebSocket a above accepted after again allowed an and answer answered answers
    ask asks at available be broke by bytes can can't cannot certificate channel
    characters check closed connection doesn't during ended error expired failed
    failure file followed for from get gave handshake has have header host in is
    issuer it known lacks like local lost many mismatch more name network no not of
    on one open operation or peer permission permitted protocol read redirect
    refused reset resolve resource resolution response route self sent server
    service session signed such temporarily temporary than that the this time timed
    to token too unable unavailable unknown unreachable unusable upgrade verify
    version was which with within wrong
    """.split()  # noqa: SIM905 - so many words are read best as a text
)


def _alike(code: int) -> int:
    """Find the character that stands for all of the same kind and size."""
    character = chr(code)
    if not character.isascii():
        printable, blank, other = _kinds(code)
        if character.isprintable():
            return printable
        return blank if character.isspace() else other
    if character.isalnum():
        return ord("x" if character.isalpha() else "0")
    if character.isprintable() or character in "\t\n\r":
        return code
    return 0x0B if character.isspace() else 0x01


def _kinds(code: int) -> tuple[int, int, int]:
    """Give what is printable, blank or neither in as many bytes."""
    if code < 0xA0:
        return 0x80, 0x85, 0x80
    if code < 0x800:
        return 0xE9, 0xA0, 0xAD
    if 0xD800 <= code <= 0xDFFF:
        half = 0xD800 if code < 0xDC00 else 0xDC00
        return half, half, half
    if code < 0x10000:
        return 0x5B57, 0x3000, 0x200B
    return 0x1F600, 0xE0001, 0xE0001


class _Mask(dict[int, int]):
    """A table for `str.translate` that knows ASCII and finds the rest."""

    def __missing__(self, code: int) -> int:
        return _alike(code)


_MASK: Final = _Mask({code: _alike(code) for code in range(0x80)})

# In a string digits are no numbers, so they may look like letters.
_VEILED: Final = _Mask(_MASK | dict.fromkeys(range(48, 58), 120))

# Of these nothing but the length counts, and a run of one letter is written short.
_BLANK: Final = frozenset({"auth", "preview"})
_BLANKED: Final = _Mask(
    {code: 0x78 if 0x20 < code < 0x7F else _alike(code) for code in range(0x80)}
)


class Redactor:
    """
    The masks and pseudonyms of one recording.

    It belongs to one thread at a time.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._short: dict[str, str] = {}
        self._taken: set[str] = set()

    def message(self, text: str) -> str:
        """
        Redact a WebSocket text message.

        Args:
            text: Anything.

        Returns:
            A text of the same length that takes the same way through the bridge.
        """
        return self._text(text, 1)

    def pseudonym(self, text: str) -> str:
        """
        Replace letters and digits by others, the same ones each time.

        Args:
            text: What stands for somebody or something.

        Returns:
            A text of the same length and the same punctuation.
        """
        known = self._short.get(text)
        if known is not None:
            return known
        if len(text) > _LONGEST:
            return text.translate(_MASK)
        pseudonym = self._drawn(text, 0)
        count = sum(character in _ALPHABET_OF for character in text)
        if not count:
            return pseudonym
        for number in range(1, _TRIES):
            if pseudonym not in self._taken and pseudonym not in _KEYS | {text}:
                break
            pseudonym = self._drawn(text, number)
        if count <= _SHORT and len(self._short) < _MOST_SHORT:
            self._short[text] = pseudonym
            self._taken.add(pseudonym)
        return pseudonym

    def sentence(self, text: str) -> str:
        """
        Redact an error's message: only the words of the bridge's own ones are kept.

        Args:
            text: The message, which may hold a host's name and a server's words.
        """
        written: list[str] = []
        position = 0
        for match in _WORD.finditer(text):
            written.append(text[position : match.start()].translate(_MASK))
            word = match[0]
            written.append(word if word in _WORDS else word.translate(_MASK))
            position = match.end()
        written.append(text[position:].translate(_MASK))
        return "".join(written)

    def _drawn(self, text: str, number: int) -> str:
        digest = hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"),
            key=self._key,
            salt=number.to_bytes(16, "big"),
        ).digest()
        drawn = iter(digest)
        written = []
        for character in text:
            alphabet = _ALPHABET_OF.get(character)
            if alphabet is None:
                written.append(character.translate(_MASK))
            else:
                # Beyond a digest's 64 letters there is enough to tell texts apart.
                written.append(alphabet[next(drawn, 0) % len(alphabet)])
        return "".join(written)

    def _text(self, text: str, depth: int) -> str:
        """Redact what may be JSON, token by token; what lies between is masked."""
        written: list[str] = []
        position = 0
        key: str | None = None
        for count, match in enumerate(_TOKEN.finditer(text), 1):
            between = text[position : match.start()]
            written.append(between.translate(_MASK))
            if between.strip(" \t\n\r"):
                key = None
            raw, number = match["inner"], match["number"]
            if raw is None:
                written.append(match[0] if number is None else _masked(number, key))
                key = None
            else:
                inner = _decoded(raw)
                is_name = match["colon"] is not None
                if is_name:
                    redacted = self._name(inner)
                else:
                    redacted = self._value(inner, key, depth)
                written += '"', _written_like(raw, redacted), match["end"]
                key = inner if is_name else None
            position = match.end()
            if count == _MOST_TOKENS:
                break
        written.append(text[position:].translate(_MASK))
        return "".join(written)

    def _name(self, name: str) -> str:
        return name if name in _KEYS else self.pseudonym(name)

    def _value(  # noqa: PLR0911 - a table would hide which rule comes first
        self, text: str, key: str | None, depth: int
    ) -> str:
        if text in _KEPT.get(key or "", ()):
            return text
        if key == "channel" and text.startswith(_CLIENT_CHANNEL):
            client_id = text.removeprefix(_CLIENT_CHANNEL)
            return _CLIENT_CHANNEL + self.pseudonym(client_id)
        if key in _PSEUDONYMOUS:
            return self.pseudonym(text)
        if key in _BLANK:
            return text.translate(_BLANKED)
        if key == "progress":
            return text if _PERCENTAGE.fullmatch(text) else text.translate(_MASK)
        may_be_json = key == "data" or text.lstrip().startswith(("{", "[", '"'))
        if may_be_json and depth < _DEEPEST:
            return self._text(text, depth + 1)
        return text.translate(_VEILED)


def _masked(number: str, key: str | None) -> str:
    """Mask a number; it stays one, and in or out of a double's range."""
    if key in _NUMERIC and _SMALL_NUMBER.fullmatch(number):
        return number
    if key == "progress" and _PERCENTAGE.fullmatch(number):
        return number
    digits, _, exponent = number.lower().partition("e")
    masked = digits.translate(_ONES)
    if exponent:
        short = len(exponent.lstrip("+-")) <= _SHORT_EXPONENT
        masked += "e" + (exponent if short else exponent.translate(_NINES))
    return masked


def _decoded(raw: str) -> str:
    """Read what stands between quotes: one character for each escape, right or not."""
    if "\\" not in raw:
        return raw
    return _ESCAPE.sub(
        lambda match: (
            chr(int(match[1], 16))
            if match[1]
            else _ESCAPED.get(match[0][1], match[0][1])
        ),
        raw,
    )


def _written_like(raw: str, redacted: str) -> str:
    """Write the redacted text with the escapes that the original had."""
    if "\\" not in raw:
        return redacted
    written: list[str] = []
    position = taken = 0
    for match in _ESCAPE.finditer(raw):
        end = taken + match.start() - position
        written += redacted[taken:end], _escape(match, redacted[end])
        position, taken = match.end(), end + 1
    written.append(redacted[taken:])
    return "".join(written)


def _escape(match: re.Match[str], character: str) -> str:
    if match[1] is not None:
        known = chr(int(match[1], 16)) == character
        return match[0] if known else f"\\u{ord(character):04x}"
    # What is no escape must not become one: a masked letter is `x`.
    escaped = match[0][1]
    return match[0] if escaped in _ESCAPED else f"\\{escaped.translate(_MASK)}"
