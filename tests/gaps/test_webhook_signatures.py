"""Which webhooks are genuine, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.gaps import webhook
from bridge.gaps.webhook import Outcome, signature_of
from bridge.settings import Secret


SECRET = "whsec_made-up"
NOW = 1_800_000_000
BODY = b'{"event":"job.completed"}'

_Headers = list[tuple[bytes, bytes]]


def _headers(
    *,
    secret: str = SECRET,
    body: bytes = BODY,
    prefix: bytes = b"x-dryapi-",
    **changed: bytes,
) -> _Headers:
    """Sign by hand, as dryAPI's documentation says."""
    message = str(NOW).encode() + b"." + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    members = {
        "signature": f"sha256={digest}".encode(),
        "timestamp": str(NOW).encode(),
        "event": b"job.completed",
        **changed,
    }
    return [(prefix + name.encode(), value) for name, value in members.items()]


def _error(
    headers: _Headers, *, body: bytes = BODY, secret: str = SECRET, now: float = NOW
) -> Outcome | None:
    found = signature_of(headers)
    if isinstance(found, Outcome):
        return found
    return found.error(body, Secret(secret), now)


class Row(NamedTuple):
    """A request, and what is wrong with it."""

    what: str
    error: Outcome | None
    headers: _Headers
    secret: str = SECRET
    age: float = 0


_SIGNED = _headers()
_UPPER = _SIGNED[0][1].replace(b"sha256=", b"").upper()

_ROWS = [
    Row("signed", None, _SIGNED),
    Row("the other prefix", None, _headers(prefix=b"x-deapi-")),
    Row("upper case", None, _headers(signature=b"sha256=" + _UPPER)),
    # The time.
    *(Row("in time", None, _SIGNED, age=age) for age in (-300, -299.5, 299.5, 300)),
    *(Row("old", Outcome.TOO_OLD, _SIGNED, age=age) for age in (300.001, 1e9)),
    Row("ahead", Outcome.TOO_NEW, _SIGNED, age=-300.001),
    # A forgery with an old timestamp is a forgery; a replay can't get a new timestamp.
    Row("old forgery", Outcome.WRONG_SIGNATURE, _headers(secret="x"), age=1000),
    Row("new time", Outcome.WRONG_SIGNATURE, _headers(timestamp=b"1800001000")),
    # Missing and repeated headers.
    Row("no timestamp", Outcome.MISSING_HEADER, _SIGNED[:1]),
    Row("no signature", Outcome.MISSING_HEADER, _SIGNED[1:]),
    Row("neither", Outcome.MISSING_HEADER, []),
    *(
        Row("twice", Outcome.REPEATED_HEADER, [*_SIGNED, *again])
        for prefix in (b"x-dryapi-", b"x-deapi-")
        for again in (_headers(prefix=prefix)[:1], _headers(prefix=prefix)[1:2])
    ),
    # Malformed headers.
    *(
        Row("signature", Outcome.MALFORMED_HEADER, _headers(signature=value))
        for value in (
            *(b"", b"0" * 64, b"sha256=" + b"0" * 63, b"sha256=" + b"0" * 65),
            *(b"sha256=" + b"g" * 64, b"sha256=" + b"\xd9\xa0" * 32, b"sha1=00"),
        )
    ),
    *(
        Row("timestamp", Outcome.MALFORMED_HEADER, _headers(timestamp=value))
        for value in (
            *(b"", b"now", b"-1", b"1800000000.0", b"1_800_000_000", b"\xd9\xa1"),
            *(b"1\n", b"1" * 5000),
        )
    ),
    # Each secret of a rotation is valid, whatever separates them.
    *(
        Row("rotation", error, _SIGNED, secret=secrets.format(one))
        for secrets in ("new {}", "{} old", " a\n{}\r\n\tb ", "{}\n")
        for one, error in ((SECRET, None), ("x", Outcome.WRONG_SIGNATURE))
    ),
    Row("no secret", Outcome.WRONG_SIGNATURE, _headers(secret=""), secret=" \n"),
]


def test_request_is_genuine_or_has_an_error() -> None:
    """By its headers, its signature and its age."""
    wrong = [
        (row, found)
        for row in _ROWS
        if (found := _error(row.headers, secret=row.secret, now=NOW + row.age))
        is not row.error
    ]
    assert not wrong


@given(st.binary(max_size=300), st.text("abc_019é€", min_size=1, max_size=40))
def test_raw_body_is_signed_byte_for_byte(body: bytes, secret: str) -> None:
    """Any bytes are genuine with their signature, and with one more they aren't."""
    headers = _headers(secret=secret, body=body)
    assert _error(headers, body=body, secret=secret) is None
    assert _error(headers, body=body + b" ", secret=secret) is Outcome.WRONG_SIGNATURE
    assert _error(headers, body=body, secret="x") is Outcome.WRONG_SIGNATURE


def test_every_secret_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three secrets are three comparisons of all 64 digits, whichever is right."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    class Watched:
        new = staticmethod(hmac.new)
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(webhook, "hmac", Watched)
    for right in ("one", "two", "three", "none of them"):
        compared.clear()
        error = _error(_headers(secret=right), secret="one two three")
        assert (error is None) == (right != "none of them")
        assert compared == [(64, 64)] * 3
