"""
From a raw value to the setting's type, or to a sentence about what is wrong.

Every sentence is made here, none is msgspec's: only so is it sure that a
secret stands in none. Values are judged alone; how they fit stands in `checks`.
"""

from __future__ import annotations

import json
import math
import os.path
from pathlib import Path
from typing import Any

import msgspec

from bridge.errors import ConfigError
from bridge.settings.catalogue import Kind, SettingDescription, nearest
from bridge.settings.checks import ACCEPTS
from bridge.settings.layers import Given, Source, SourceKind
from bridge.settings.secret import Secret


__all__ = ["WrongValueError", "convert"]

# Long enough to recognise a value, short enough for one line.
_SHOWN_CHARACTERS = 60

# Neighbours of a secret: what is put here by mistake is likely one. The same
# holds for paths of files, in whose place the file's content is often pasted.
_PRIVATE = frozenset(
    {
        "client_id",
        "pusher.app_key",
        "kafka.sasl_username",
        "kafka.sasl_oauth_client_id",
        "kafka.sasl_oauth_extensions",
    }
)


class WrongValueError(Exception):
    """What is wrong with a value: the end of a sentence that begins with names."""


def convert(given: Given) -> Any:
    """Convert one raw value; every failure becomes our own words, never msgspec's."""
    setting, raw = given.setting, given.value
    if setting.secret:
        return _secret(given)
    if isinstance(raw, str) and not raw:
        # Compose files and charts hand on what they don't have as nothing.
        if setting.optional and not setting.required and _is_text(given.source):
            return None
        raise WrongValueError(
            f'must be {setting.expected}, but {given.source.says} says ""'
        )
    value = _converted(setting, raw, lenient=_is_text(given.source))
    accepts = ACCEPTS.get(setting.rules)
    if value is _FAILED or (accepts is not None and not accepts(value)):
        raise WrongValueError(_wrong(given))
    if setting.path in {"api_url", "pusher.url"}:
        # Paths are put behind it; ce_source must not have two spellings.
        return value.rstrip("/")
    if setting.path == "kafka.bootstrap_servers":
        return ",".join(part.strip() for part in value.split(","))
    return value


_FAILED = object()


def _converted(setting: SettingDescription, raw: Any, *, lenient: bool) -> Any:
    if setting.kind is Kind.PATH:
        if not isinstance(raw, str) or not _is_clean(raw):
            return _FAILED
        return Path(os.path.expanduser(raw))  # noqa: PTH111 - Path's one raises
    if isinstance(raw, str):
        if setting.kind is Kind.CHOICE:
            # `INFO` and `sasl_ssl` are what people write, too.
            folded = {choice.casefold(): choice for choice in setting.choices}
            raw = folded.get(raw.casefold(), raw)
        if not _is_clean(raw):
            return _FAILED
    numeric = setting.kind in {Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN}
    try:
        # Text as text: the lenient mode would read "null" as None.
        value = msgspec.convert(raw, setting.type, strict=not (lenient and numeric))
    except msgspec.ValidationError:
        return _FAILED
    if isinstance(value, float) and not math.isfinite(value):
        return _FAILED
    return value


def _secret(given: Given) -> Secret:
    setting, raw = given.setting, given.value
    accepts = ACCEPTS.get(setting.rules, bool)
    if not isinstance(raw, str) or not raw:
        what = "is empty" if raw == "" else "isn't text"
        where = f"what {given.source.says} says {what}"
        if given.in_file:
            raise WrongValueError(f"must name a file, but {where}")
        raise WrongValueError(f"must be {setting.expected}, but {where}")
    if not given.in_file:
        if not accepts(raw):
            raise WrongValueError(
                f"must be {setting.expected}, but what {given.source.says} says isn't"
                " (it is not shown)"
            )
        return Secret(raw)
    names = setting.environment_names
    if given.source.kind is SourceKind.FILE:
        names = setting.toml_names
    file = f"the file that {names[1]} in {given.source.says} names"
    try:
        secret = Secret.from_file(
            Path(os.path.expanduser(raw)),  # noqa: PTH111 - Path's one raises
            accepts=accepts,
        )
    except ConfigError as error:
        raise WrongValueError(
            f"must be {setting.expected}, but {file} {error}"
        ) from None
    if not accepts(secret.reveal()):
        raise WrongValueError(
            f"must be {setting.expected}, but what {file} holds isn't (it is not shown)"
        )
    return secret


def _wrong(given: Given) -> str:
    setting = given.setting
    line = (
        f"must be {setting.expected}, but {given.source.says} says "
        f"{_shown(setting, given.value)}"
    )
    if setting.kind is Kind.CHOICE and isinstance(given.value, str):
        close = nearest(given.value.upper(), [c.upper() for c in setting.choices])
        if close is not None:
            choices = {choice.upper(): choice for choice in setting.choices}
            line += f": did you mean {choices[close]}?"
    return line


def _shown(setting: SettingDescription, value: Any) -> str:
    """Show a wrong value in a line, unless it could carry credentials."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if setting.rules in _PRIVATE or setting.path.endswith("_file"):
        return "something else (not shown)"
    text = json.dumps(value, default=str)
    if "@" in text:
        return "something with an @ (not shown, it may hold credentials)"
    if len(text) > _SHOWN_CHARACTERS:
        return f"{text[:_SHOWN_CHARACTERS]}…"
    return text


def _is_text(source: Source) -> bool:
    return source.kind in {SourceKind.FLAG, SourceKind.ENVIRONMENT}


def _is_clean(text: str) -> bool:
    return all(character.isprintable() for character in text)
