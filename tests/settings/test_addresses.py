"""Tests of `host:port`."""

from __future__ import annotations

import pytest

from bridge.settings import split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("kafka-1.example:0", ("kafka-1.example", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_taken_apart(text: str, address: tuple[str, int]) -> None:
    """Host and port come out, brackets don't."""
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "host",
        "host:",
        ":8080",
        "host:port",
        "host:65536",
        "host:-1",
        "host: 1",
        "host:٣",
        "::1:8080",
        "[host]:1",
        "[]:1",
        "http://host:1",
        "user@host:1",
        "a,b:1",
        "a b:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Anything else is a ValueError that doesn't repeat the text."""
    with pytest.raises(ValueError, match=r"^(not an? |port out)") as caught:
        split_address(text)
    assert not text or text not in str(caught.value)
