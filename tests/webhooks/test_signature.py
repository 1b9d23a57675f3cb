"""Which webhooks are genuine, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.sandbox.signing import webhook_signature
from bridge.settings import Secret
from bridge.webhooks import signature
from bridge.webhooks.signature import Fault, Seal, seal_of


_SECRET = "whsec_made-up"
_NOW = 1_800_000_000
_BODY = b'{"event":"job.completed"}'

_Headers = list[tuple[bytes, bytes]]


def _headers(
    *,
    secret: str = _SECRET,
    timestamp: str = str(_NOW),
    body: bytes = _BODY,
    prefix: bytes = b"x-dryapi-",
) -> _Headers:
    """Sign as the sandbox does, which has its own idea of how that is done."""
    signed = webhook_signature(secret, timestamp, body).encode()
    return [
        (b"content-type", b"application/json"),
        (prefix + b"signature", signed),
        (prefix + b"timestamp", timestamp.encode()),
        (prefix + b"event", b"job.completed"),
    ]


def _fault(
    headers: _Headers,
    *,
    body: bytes = _BODY,
    secret: str = _SECRET,
    now: float = _NOW,
) -> Fault | None:
    seal = seal_of(headers)
    return seal if isinstance(seal, Fault) else seal.fault(body, Secret(secret), now)


@pytest.mark.parametrize("prefix", [b"x-dryapi-", b"x-deapi-"])
def test_what_the_sender_signed_is_genuine(prefix: bytes) -> None:
    """Headers of either prefix are taken."""
    assert _fault(_headers(prefix=prefix)) is None


def test_the_documented_way_to_sign() -> None:
    """A signature made by hand, after the documentation's words, is right."""
    message = str(_NOW).encode() + b"." + _BODY
    digest = hmac.new(_SECRET.encode(), message, hashlib.sha256).hexdigest()
    seal = Seal(str(_NOW).encode(), digest.encode())
    assert seal.fault(_BODY, Secret(_SECRET), _NOW) is None


@given(st.binary(max_size=300), st.text("abc_019é€", min_size=1, max_size=40))
def test_any_body_is_signed_byte_for_byte(body: bytes, secret: str) -> None:
    """Whatever the bytes are: they are genuine, and with one more they aren't."""
    headers = _headers(secret=secret, body=body)
    assert _fault(headers, body=body, secret=secret) is None
    assert _fault(headers, body=body + b" ", secret=secret) is Fault.WRONG_SIGNATURE
    assert _fault(headers, body=body, secret="x") is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize("age", [-300, -299.5, 0, 299.5, 300])
def test_five_minutes_are_allowed(age: float) -> None:
    """A timestamp may lie 300 s behind, or that much ahead."""
    assert _fault(_headers(), now=_NOW + age) is None


@pytest.mark.parametrize(
    ("age", "fault"),
    [(300.001, Fault.TOO_OLD), (1e9, Fault.TOO_OLD), (-300.001, Fault.TOO_NEW)],
)
def test_more_than_five_minutes_are_not(age: float, fault: Fault) -> None:
    """A replay is too old, and a sender whose clock is ahead too new."""
    assert _fault(_headers(), now=_NOW + age) is fault


def test_an_old_timestamp_that_nobody_signed_tells_nothing_of_clocks() -> None:
    """Noise with an old timestamp counts as noise."""
    headers = _headers(secret="another")
    assert _fault(headers, now=_NOW + 1000) is Fault.WRONG_SIGNATURE


def test_the_timestamp_is_signed() -> None:
    """A replay can't be made young again."""
    headers = [
        (name, b"%d" % (_NOW + 1000) if name.endswith(b"timestamp") else value)
        for name, value in _headers()
    ]
    assert _fault(headers, now=_NOW + 1000) is Fault.WRONG_SIGNATURE


@pytest.mark.parametrize(
    "kept", [{b"x-dryapi-signature"}, {b"x-dryapi-timestamp"}, set()]
)
def test_a_header_that_is_missing(kept: set[bytes]) -> None:
    """Neither of the two can be left out."""
    headers = [one for one in _headers() if one[0] in kept]
    assert _fault(headers) is Fault.MISSING_HEADER


@pytest.mark.parametrize("name", [b"signature", b"timestamp"])
@pytest.mark.parametrize("prefix", [b"x-dryapi-", b"x-deapi-"])
def test_a_header_that_comes_twice(name: bytes, prefix: bytes) -> None:
    """Nobody chooses between two of them, though they be the same."""
    headers = _headers()
    value = dict(headers)[b"x-dryapi-" + name]
    for repeated in ([*headers, (prefix + name, value)], headers * 2):
        assert _fault(repeated) is Fault.REPEATED_HEADER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-dryapi-signature", b""),
        (b"x-dryapi-signature", b"0" * 64),
        (b"x-dryapi-signature", b"sha256=" + b"0" * 63),
        (b"x-dryapi-signature", b"sha256=" + b"0" * 65),
        (b"x-dryapi-signature", b"sha256=" + b"g" * 64),
        (b"x-dryapi-signature", b"sha256=" + b"\xd9\xa0" * 32),
        (b"x-dryapi-signature", b"sha1=" + b"0" * 40),
        (b"x-dryapi-timestamp", b""),
        (b"x-dryapi-timestamp", b"now"),
        (b"x-dryapi-timestamp", b"-1"),
        (b"x-dryapi-timestamp", b"1800000000.0"),
        (b"x-dryapi-timestamp", b"1_800_000_000"),
        (b"x-dryapi-timestamp", b"\xd9\xa1"),
        (b"x-dryapi-timestamp", b"1" * 5000),
    ],
)
def test_a_header_that_cannot_be_read(name: bytes, value: bytes) -> None:
    """What has another form is refused before anything is computed."""
    headers = [(name, value) if one[0] == name else one for one in _headers()]
    assert _fault(headers) is Fault.MALFORMED_HEADER


def test_capital_digits_are_the_same_signature() -> None:
    """Hexadecimal digits have no case."""
    headers = [
        (name, b"sha256=" + value[7:].upper() if name.endswith(b"signature") else value)
        for name, value in _headers()
    ]
    assert _fault(headers) is None


_names = st.sampled_from(
    [
        b"x-dryapi-signature",
        b"x-dryapi-timestamp",
        b"x-deapi-signature",
        b"x-deapi-timestamp",
        b"x-dryapi-event",
        b"host",
    ]
)
_values = st.one_of(
    st.binary(max_size=80),
    st.from_regex(rb"sha256=[0-9a-f]{64}", fullmatch=True),
    st.from_regex(rb"[0-9]{1,14}", fullmatch=True),
)


@given(st.lists(st.tuples(_names, _values), max_size=6), st.binary(max_size=20))
@example([(b"x-dryapi-timestamp", b"1\n"), (b"x-dryapi-signature", b"\n")], b"")
def test_nobody_gets_in_by_chance(headers: _Headers, body: bytes) -> None:
    """Whatever the headers are: a fault is named, and nothing is raised."""
    assert isinstance(_fault(headers, body=body), Fault)


# -- Secrets --------------------------------------------------------------------


@pytest.mark.parametrize("secrets", ["new {}", "{} old", " a\n{}\r\n\tb ", "{}\n"])
def test_each_secret_of_a_rotation_counts(secrets: str) -> None:
    """Whatever stands between them: any of them will do."""
    assert _fault(_headers(), secret=secrets.format(_SECRET)) is None
    assert _fault(_headers(), secret=secrets.format("x")) is Fault.WRONG_SIGNATURE


def test_no_secret_lets_nobody_in() -> None:
    """Blanks are no secret, not even for who signs with nothing."""
    assert _fault(_headers(secret=""), secret=" \n") is Fault.WRONG_SIGNATURE


def test_a_rotation_needs_no_restart(tmp_path: Path) -> None:
    """What the file says when a webhook comes is what counts."""
    file = tmp_path / "secret"
    file.write_text("old\n")
    secret = Secret.from_file(file)
    seals = {name: seal_of(_headers(secret=name)) for name in ("old", "new")}

    def accepted() -> list[str]:
        return [
            name
            for name, seal in seals.items()
            if isinstance(seal, Seal) and seal.fault(_BODY, secret, _NOW) is None
        ]

    assert accepted() == ["old"]
    file.write_text("new\nold\n")
    assert accepted() == ["old", "new"]
    file.write_text("new\n")
    assert accepted() == ["new"]


@pytest.mark.parametrize("right", ["one", "two", "three", "none of them"])
def test_every_secret_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, right: str
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
    fault = _fault(_headers(secret=right), secret="one two three")
    assert (fault is None) == (right != "none of them")
    assert compared == [(64, 64)] * 3
