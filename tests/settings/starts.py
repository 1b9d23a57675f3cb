"""Starts with an account and some more settings, and what they complain of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from bridge.errors import ConfigError
from bridge.settings import load


NEEDED = {"BRIDGE_CLIENT_ID": "client-1", "BRIDGE_API_TOKEN": "token-1"}
CANARY = "canary7d1f"

Wrong: TypeAlias = tuple[Mapping[str, str], str, str]
"""Variables without BRIDGE_, the setting that the line is about, and words of it."""


def environment(*groups: Mapping[str, str]) -> dict[str, str]:
    """Give settings as variables, beside what all need."""
    chosen = dict(NEEDED)
    for group in groups:
        chosen |= {f"BRIDGE_{name}": text for name, text in group.items()}
    return chosen


def problems(
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> list[str]:
    """Load with the account given; give the lines of the error, none if it loads."""
    text = ""
    try:
        load(flags or {}, environment(environ or {}), file)
    except ConfigError as error:
        text = str(error)
    assert CANARY not in text
    return text.split("\n") if text else []


def check(table: Iterable[Wrong], *more_words: str) -> None:
    """Each is one line, which names the setting and its variable, and has the words."""
    wrong = []
    for environ, path, words in table:
        line, *more = problems(environ) or [""]
        is_told = all(word in line for word in (words, *more_words))
        if more or not line.startswith(f"{path} (BRIDGE_") or not is_told:
            wrong.append((environ, line, more))
    assert not wrong
