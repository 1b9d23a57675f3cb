"""Which webhooks are genuine, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import pytest
from bridge.webhooks import signature
from bridge.webhooks.signature import Fault, seal_of
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.settings import Secret


SECRET = "whsec_made-up"
NOW = 1_800_000_000
BODY = b'{"event":"job.completed"}'
SIGNATURE, TIMESTAMP = b"x-dryapi-signature", b"x-dryapi-timestamp"

_Headers = list[tuple[bytes, bytes]]


def _headers(
    *,
    secret: str = SECRET,
    body: bytes = BODY,
    prefix: bytes = b"x-dryapi-",
    **changed: bytes,
) -> _Headers:
    """Sign by hand, after the words of dryAPI's documentation."""
    message = str(NOW).encode() + b"." + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    members = {
        "signature": f"sha256={digest}".encode(),
        "timestamp": str(NOW).encode(),
        "event": b"job.completed",
        **changed,
    }
    return [(prefix + name.encode(), value) for name, value in members.items()]


def _fault(
    headers: _Headers, *, body: bytes = BODY, secret: str = SECRET, now: float = NOW
) -> Fault | None:
    seal = seal_of(headers)
    return seal if isinstance(seal, Fault) else seal.fault(body, Secret(secret), now)


class Row(NamedTuple):
    """A request, and what is wrong with it."""

    what: str
    fault: Fault | None
    headers: _Headers
    secret: str = SECRET
    age: float = 0


_SIGNED = _headers()
_UPPER = _SIGNED[0][1].replace(b"sha256=", b"").upper()

ROWS = [
    Row("signed", None, _SIGNED),
    Row("the other prefix", None, _headers(prefix=b"x-deapi-")),
    Row("capital digits", None, _headers(signature=b"sha256=" + _UPPER)),
    # The time.
    *(Row("in time", None, _SIGNED, age=age) for age in (-300, -299.5, 299.5, 300)),
    *(Row("old", Fault.TOO_OLD, _SIGNED, age=age) for age in (300.001, 1e9)),
    Row("ahead", Fault.TOO_NEW, _SIGNED, age=-300.001),
    # Noise with an old timestamp is noise, and a replay can't be made young again.
    Row("old noise", Fault.WRONG_SIGNATURE, _headers(secret="x"), age=1000),
    Row("rejuvenated", Fault.WRONG_SIGNATURE, _headers(timestamp=b"1800001000")),
    # Headers that are missing or come twice.
    Row("no timestamp", Fault.MISSING_HEADER, _SIGNED[:1]),
    Row("no signature", Fault.MISSING_HEADER, _SIGNED[1:]),
    Row("neither", Fault.MISSING_HEADER, []),
    *(
        Row("twice", Fault.REPEATED_HEADER, [*_SIGNED, *again])
        for prefix in (b"x-dryapi-", b"x-deapi-")
        for again in (
            _headers(prefix=prefix),
            _headers(prefix=prefix)[:1],
            _headers(prefix=prefix)[1:2],
        )
    ),
    # Headers of another form.
    *(
        Row("unreadable signature", Fault.MALFORMED_HEADER, _headers(signature=value))
        for value in (
            *(b"", b"0" * 64, b"sha256=" + b"0" * 63, b"sha256=" + b"0" * 65),
            *(b"sha256=" + b"g" * 64, b"sha256=" + b"\xd9\xa0" * 32, b"sha1=00"),
        )
    ),
    *(
        Row("unreadable timestamp", Fault.MALFORMED_HEADER, _headers(timestamp=value))
        for value in (
            *(b"", b"now", b"-1", b"1800000000.0", b"1_800_000_000", b"\xd9\xa1"),
            b"1" * 5000,
        )
    ),
    # Each secret of a rotation counts, whatever separates them.
    *(
        Row("rotation", fault, _SIGNED, secret=secrets.format(one))
        for secrets in ("new {}", "{} old", " a\n{}\r\n\tb ", "{}\n")
        for one, fault in ((SECRET, None), ("x", Fault.WRONG_SIGNATURE))
    ),
    Row("no secret", Fault.WRONG_SIGNATURE, _headers(secret=""), secret=" \n"),
]


def test_a_request_is_genuine_or_what_is_wrong_with_it() -> None:
    """By its headers, its signature and its age."""
    wrong = [
        (row, found)
        for row in ROWS
        if (found := _fault(row.headers, secret=row.secret, now=NOW + row.age))
        is not row.fault
    ]
    assert not wrong


@given(st.binary(max_size=300), st.text("abc_019é€", min_size=1, max_size=40))
def test_any_body_is_signed_byte_for_byte(body: bytes, secret: str) -> None:
    """Whatever the bytes are: they are genuine, and with one more they aren't."""
    headers = _headers(secret=secret, body=body)
    assert _fault(headers, body=body, secret=secret) is None
    assert _fault(headers, body=body + b" ", secret=secret) is Fault.WRONG_SIGNATURE
    assert _fault(headers, body=body, secret="x") is Fault.WRONG_SIGNATURE


_NAMES = st.sampled_from(
    [SIGNATURE, TIMESTAMP, b"x-deapi-signature", b"x-deapi-timestamp", b"host"]
)
_VALUES = st.one_of(
    st.binary(max_size=80),
    st.from_regex(rb"sha256=[0-9a-f]{64}", fullmatch=True),
    st.from_regex(rb"[0-9]{1,14}", fullmatch=True),
)


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.binary(max_size=20))
@example([(TIMESTAMP, b"1\n"), (SIGNATURE, b"\n")], b"")
def test_no_headers_get_in_by_chance(headers: _Headers, body: bytes) -> None:
    """Whatever they are: a fault is named, and nothing is raised."""
    assert isinstance(_fault(headers, body=body), Fault)


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

    monkeypatch.setattr(signature, "hmac", Watched)
    for right in ("one", "two", "three", "none of them"):
        compared.clear()
        fault = _fault(_headers(secret=right), secret="one two three")
        assert (fault is None) == (right != "none of them")
        assert compared == [(64, 64)] * 3
