"""
The list of all settings, made from the structs, and their names in messages.

Help, `bridge config show`, documentation and the chart's schema are made from it.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Final

import msgspec

from bridge.settings.metadata import Form
from bridge.settings.model import Account, Settings
from bridge.settings.secret import Secret


__all__ = [
    "ENVIRONMENT_PREFIX",
    "Kind",
    "Setting",
    "account_settings",
    "all_settings",
    "by_path",
    "nearest",
    "sections",
]

ENVIRONMENT_PREFIX: Final = "BRIDGE_"


class Kind(StrEnum):
    """What a setting's value is."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    PATH = "path"
    SECRET = "secret"  # noqa: S105 - a word, not one


_KINDS: Final[dict[Any, Kind]] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    Path: Kind.PATH,
    Secret: Kind.SECRET,
}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting, without its value.

    Attributes:
        path: Its path in TOML, parts joined by dots.
        type: What `msgspec.convert` makes of a value.
        kind: What its value is.
        optional: Whether it may be left without a value.
        default: The default; None for none, or one that depends on the machine.
        choices: The values of a `Kind.CHOICE`.
        account: The position in `[[accounts]]` of the account that it belongs to, from
            1; None for a setting outside that list.
        description: What it is, without a full stop; the others are those of
            `metadata.setting`.
    """

    path: str
    type: Any
    kind: Kind
    optional: bool
    default: str | float | bool | None
    choices: tuple[str, ...]
    account: int | None = None
    description: str
    form: Form | None
    because: str | None
    default_text: str
    flags: tuple[str, ...]
    required: bool
    minimum: float | None
    exclusive_minimum: float | None
    maximum: float | None

    @property
    def name(self) -> str:
        """Its name without its section."""
        return self.path.rpartition(".")[2]

    @property
    def section(self) -> str:
        """Its section, or nothing."""
        return self.path.rpartition(".")[0]

    @property
    def unit(self) -> str | None:
        """`seconds`, `ms`, `bytes` or None."""
        ending = self.path.rpartition("_")[2]
        return ending if ending in {"seconds", "ms", "bytes"} else None

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.kind is Kind.SECRET

    @property
    def expected(self) -> str:
        """What a value must be; follows "must be"."""
        if self.form is not None:
            return self.form.expected
        if self.kind is Kind.BOOLEAN:
            return "true or false"
        if self.kind is Kind.CHOICE:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        if self.kind not in {Kind.INTEGER, Kind.NUMBER}:
            characters = "" if self.is_secret else ", without control characters"
            return f"text that is not empty{characters}"
        words = "a whole number" if self.kind is Kind.INTEGER else "a number"
        if self.unit is not None:
            words += f" of {'milliseconds' if self.unit == 'ms' else self.unit}"
        if self.exclusive_minimum is not None:
            words += f" above {self.exclusive_minimum:g}"
        elif self.minimum is not None and self.maximum is not None:
            return f"{words} from {self.minimum:.0f} to {self.maximum:.0f}"
        elif self.minimum is not None:
            words += f", {self.minimum:.0f} or more"
        return words if self.maximum is None else f"{words}, {self.maximum:.0f} at most"

    def is_within(self, number: float) -> bool:
        """Whether a number is within the limits."""
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.exclusive_minimum is None or number > self.exclusive_minimum)
            and (self.maximum is None or number <= self.maximum)
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment variable, and for a secret the one that names a file."""
        if self.account:
            return ()
        name = ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()
        return (name, f"{name}_FILE") if self.is_secret else (name,)

    @property
    def keys(self) -> tuple[str, ...]:
        """Its path in TOML, and for a secret the one that names a file."""
        return (self.path, f"{self.path}_file") if self.is_secret else (self.path,)

    @property
    def title(self) -> str:
        """All its names, as messages begin with them."""
        if self.account:
            return f"{self.path} (number {self.account} of [[accounts]])"
        names = " or ".join(self.variables)
        return f"{self.path} ({', '.join([names, *self.flags[:1]])})"


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """List all settings: required ones, those without a section, then the others."""
    found = list(_fields(Settings, ""))
    # TOML wants values before tables, too.
    found.sort(key=lambda setting: (not setting.required, "." in setting.path))
    return tuple(found)


def account_settings(position: int) -> tuple[Setting, ...]:
    """List the settings of one account of `[[accounts]]`; positions begin with 1."""
    return tuple(
        msgspec.structs.replace(setting, account=position)
        for setting in _fields(Account, f"accounts[{position}].")
    )


@functools.cache
def by_path() -> dict[str, Setting]:
    """Return all settings by path."""
    return {setting.path: setting for setting in all_settings()}


@functools.cache
def sections() -> dict[str, type[Any]]:
    """Return the sections (tables in TOML), by name."""
    hints = typing.get_type_hints(Settings)
    return {
        name: kind
        for name, kind in hints.items()
        if isinstance(kind, type) and is_dataclass(kind)
    }


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, if one is like it at all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


def _fields(owner: type[Any], prefix: str) -> Iterator[Setting]:
    hints = typing.get_type_hints(owner)
    for field in fields(owner):
        if field.name in sections():
            yield from _fields(hints[field.name], f"{prefix}{field.name}.")
        elif field.metadata:
            yield _describe(prefix + field.name, hints[field.name], field)


def _describe(path: str, hint: Any, field: Field[Any]) -> Setting:
    # The parts of `X | None`, or a Literal's words.
    parts = typing.get_args(hint)
    optional = NoneType in parts
    if optional:
        (hint,) = (part for part in parts if part is not NoneType)
    default = None if field.default is MISSING else field.default
    words = field.metadata["default_text"] or _in_words(default)
    return Setting(
        path=path,
        type=hint,
        kind=_KINDS.get(hint, Kind.CHOICE),
        optional=optional,
        default=default,
        choices=typing.get_args(hint),
        **{**field.metadata, "default_text": words},
    )


def _in_words(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
