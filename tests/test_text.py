"""Tests of the last line of defense against secrets in text."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from bridge.text import Redactor


@pytest.fixture
def redactor() -> Redactor:
    """A redactor of its own: the process's one would remember."""
    return Redactor()


def test_what_is_hidden_of_a_text() -> None:
    """Each secret everywhere, the longest first; blanks and short values are none."""
    table: list[tuple[list[str], str, str]] = [
        (["s3cret"], "Bearer s3cret; s3cret.", "Bearer [hidden]; [hidden]."),
        (["s3cret"], "nothing to see", "nothing to see"),
        (["token", "token-with-more"], "token-with-more", "[hidden]"),
        (["from-a-file\n"], "x=from-a-file;", "x=[hidden];"),
        # A value that occurs in ordinary text would destroy the log.
        (["", "  ", "abc"], "abc  def", "abc  def"),
    ]
    wrong = []
    for secrets, text, wanted in table:
        redactor = Redactor()
        for secret in secrets:
            redactor.hide(secret)
        if redactor.redact(text) != wanted:
            wrong.append((secrets, text, redactor.redact(text)))
    assert not wrong


@pytest.mark.parametrize(
    "escape",
    [
        repr,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: quote(value, safe=""),
    ],
)
def test_escaped_forms_are_hidden(redactor: Redactor, escape: object) -> None:
    """A secret inside a repr, JSON text or a URL is recognized."""
    assert callable(escape)
    secret = "pä\"ss\\wörd\n'x/y"
    redactor.hide(secret)
    escaped = str(escape(secret))
    assert "[hidden]" in redactor.redact(f"before {escaped} after")
    assert "ss" not in redactor.redact(escaped)


def test_memory_is_bounded(redactor: Redactor) -> None:
    """After thousands of rotations the oldest value is forgotten first."""
    for number in range(5_000):
        redactor.hide(f"<rotated-{number}>")
    hidden = [
        redactor.redact(f"<rotated-{number}>") == "[hidden]" for number in range(5_000)
    ]
    assert hidden == [False] * (5_000 - 4_096) + [True] * 4_096


_SIGNATURE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PREVIEW = "iVBORw0KGgo/+" * 40


_HIDDEN: list[tuple[str, str]] = [
    (
        f"Invalid signature: Expected HMAC of 1.2:private-x, but got {_SIGNATURE}",
        "Invalid signature: Expected HMAC of 1.2:private-x, but got [hidden]",
    ),
    (f'{{"auth":"key:{_SIGNATURE}"}}', '{"auth":"key:[hidden]"}'),
    # A server's sentence may have been cut.
    (f"but got {_SIGNATURE[:45]}", "but got [hidden]"),
    (
        "at https://s.example/r/1.png?signature=abc&expires=7 or there",
        "at https://s.example/r/1.png?[hidden] or there",
    ),
    # As PHP escapes it.
    (
        r'{"result_url":"https:\/\/s.example\/r?signature=abc"}',
        r'{"result_url":"https:\/\/s.example\/r?[hidden]"}',
    ),
    ("wss://user:pass@host:443/app", "wss://[hidden]@host:443/app"),
    (
        "{'Authorization': 'Bearer 17|abcdefghijklm'}",
        "{'Authorization': 'Bearer [hidden]'}",
    ),
    (
        f'"preview":"data:image/png;base64,{_PREVIEW}="}}',
        '"preview":"data:image/png;base64,[hidden]"}',
    ),
    (f"got {_PREVIEW}== here", "got [hidden] here"),
]


def test_what_looks_like_a_secret_is_hidden(
    subtests: pytest.Subtests, redactor: Redactor
) -> None:
    """Signatures, queries, previews and tokens: hidden, though no setting has them."""
    for text, shown in _HIDDEN:
        with subtests.test(text=text, shown=shown):
            assert redactor.redact(text) == shown


_KEPT: list[str] = [
    "http://127.0.0.1:8080",
    "wss://soketi.dryapi.dev:443/app/key",
    "https://dryapi.dev/docs/runbook.md#bridgeabsent",
    "outbox 0b6f0d5c-7d1e-4a5e-9f61-0d8f8a6d3c11, span 4bf92f3577b34da6",
    "/usr/lib/python3.11/site-packages/aiokafka/producer/message_accumulator.py:512",
    "HTTP 401: bearer authentication is not enabled",
    "SASL SCRAM-SHA-512 is not enabled? ask user@example",
]


def test_what_an_operator_needs_stays(
    subtests: pytest.Subtests, redactor: Redactor
) -> None:
    """Addresses, ids and places in the code aren't secrets."""
    for text in _KEPT:
        with subtests.test(text=text):
            assert redactor.redact(text) == text


@pytest.mark.parametrize(
    "text", ["://" * 100_000, "f" * 300_000, "Bearer" + " " * 300_000, "A1." * 100_000]
)
def test_no_text_takes_long(redactor: Redactor, text: str) -> None:
    """The time grows with the text's length, not with its square."""
    began = time.process_time()
    redactor.redact(text)
    # Milliseconds; with the square it would be minutes.
    assert time.process_time() - began < 2
