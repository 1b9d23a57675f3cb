"""Tests of the last line of defence against secrets in text."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from bridge.operations.redaction import Redactor


@pytest.fixture
def redactor() -> Redactor:
    """A redactor of its own: the process's one would remember."""
    return Redactor()


def test_hidden_value_is_blotted_out_everywhere(redactor: Redactor) -> None:
    """Every occurrence goes, and the text around it stays."""
    redactor.hide("s3cret-token")
    text = "Bearer s3cret-token; again s3cret-token."
    assert redactor.redact(text) == "Bearer [hidden]; again [hidden]."


def test_other_text_is_untouched(redactor: Redactor) -> None:
    """A text without a secret comes back as it is."""
    redactor.hide("s3cret-token")
    assert redactor.redact("nothing to see") == "nothing to see"


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
    """A secret inside a repr, JSON text or a URL is recognised."""
    assert callable(escape)
    secret = "pä\"ss\\wörd\n'x/y"
    redactor.hide(secret)
    escaped = str(escape(secret))
    assert "[hidden]" in redactor.redact(f"before {escaped} after")
    assert "ss" not in redactor.redact(escaped)


def test_longer_secret_goes_first(redactor: Redactor) -> None:
    """A secret that begins with another one leaves no rest behind."""
    redactor.hide("token")
    redactor.hide("token-with-more")
    assert redactor.redact("token-with-more") == "[hidden]"


def test_surrounding_white_space_is_no_part(redactor: Redactor) -> None:
    """A secret read from a file with a newline is hidden without it, too."""
    redactor.hide("from-a-file\n")
    assert redactor.redact("x=from-a-file;") == "x=[hidden];"


@pytest.mark.parametrize("value", ["", "  ", "abc"])
def test_too_short_values_are_not_hidden(redactor: Redactor, value: str) -> None:
    """A value that occurs in ordinary text would destroy the log."""
    redactor.hide(value)
    assert redactor.redact("abc  def") == "abc  def"


def test_memory_is_bounded(redactor: Redactor) -> None:
    """After thousands of rotations the oldest value is forgotten first."""
    for number in range(5_000):
        redactor.hide(f"<rotated-{number}>")
    assert redactor.redact("<rotated-4999>") == "[hidden]"
    assert redactor.redact("<rotated-0>") == "<rotated-0>"
    assert len(redactor._values) == 4096


def test_value_hidden_again_counts_as_new(redactor: Redactor) -> None:
    """A secret that is still registered outlives the rotation of others."""
    redactor.hide("<the-oldest>")
    for number in range(4_000):
        redactor.hide(f"<rotated-{number}>")
    redactor.hide("<the-oldest>")
    for number in range(4_000, 5_000):
        redactor.hide(f"<rotated-{number}>")
    assert redactor.redact("<the-oldest>") == "[hidden]"
