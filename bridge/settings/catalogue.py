"""
The list of all settings, made from the structs, and how messages name them.

Help, `config show`, documentation and the chart's schema are generated from
`describe`. It looks at types alone; no value is read here.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from bridge.settings.accounts import AccountSettings
from bridge.settings.model import Settings
from bridge.settings.secret import Secret


__all__ = [
    "ENVIRONMENT_PREFIX",
    "Kind",
    "SettingDescription",
    "by_path",
    "describe",
    "describe_account",
    "nearest",
    "sections",
    "suggestion",
]

ENVIRONMENT_PREFIX = "BRIDGE_"


class Kind(StrEnum):
    """What a setting's value is, in words that documentation may use."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    PATH = "path"
    SECRET = "secret"  # noqa: S105 - a word, not one


class SettingDescription(msgspec.Struct, frozen=True, kw_only=True):
    """
    All that can be said of a setting without its value.

    Attributes:
        path: Its place in TOML, parts joined by dots.
        kind: What its value is.
        description: What it is, a sentence without a full stop.
        expected: What a value must be; follows "must be".
        default: The default, None for none. A default that depends on the
            machine is not here but in words in `default_text`.
        default_text: The default in words.
        because: Where the default comes from.
        unit: `seconds`, `ms`, `bytes` or None.
        flag: Its flag, `--topic` for instance.
        choices: The words it may be, for `Kind.CHOICE`.
        minimum: The least value.
        exclusive_minimum: A value that all are greater than.
        maximum: The greatest value.
        pattern: A regular expression of Python and ECMA 262 that texts match.
        required: Whether the service can't run without it.
        optional: Whether it may be left without a value.
        type: The annotation, for `msgspec.convert`.
        listed_at: Whose setting it is, of the accounts that the file lists: 1 for
            the first; None for a setting of no such account.
    """

    path: str
    kind: Kind
    description: str
    expected: str
    default: str | float | bool | None
    default_text: str
    because: str | None
    unit: str | None
    flag: str | None
    choices: tuple[str, ...]
    minimum: float | None
    exclusive_minimum: float | None
    maximum: float | None
    pattern: str | None
    required: bool
    optional: bool
    type: Any
    listed_at: int | None = None

    @property
    def rules(self) -> str:
        """The path whose rules hold for it: a listed account's are the single one's."""
        return self.path.partition("].")[2] if self.listed_at else self.path

    @property
    def environment(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()

    @property
    def secret(self) -> bool:
        """Whether its value must not be seen."""
        return self.kind is Kind.SECRET

    @property
    def environment_names(self) -> tuple[str, ...]:
        """Its variable, and for a secret the one that names a file; none in a list."""
        if self.listed_at:
            return ()
        if self.secret:
            return (self.environment, f"{self.environment}_FILE")
        return (self.environment,)

    @property
    def toml_names(self) -> tuple[str, ...]:
        """Its path, and for a secret the one that names a file."""
        return (self.path, f"{self.path}_file") if self.secret else (self.path,)

    @property
    def named(self) -> str:
        """Its names as a message gives them: path, variable, flag or place."""
        if self.listed_at:
            return f"{self.path} (number {self.listed_at} of [[accounts]])"
        others = " or ".join(self.environment_names)
        if self.flag is not None:
            others += f", {self.flag}"
        return f"{self.path} ({others})"


@functools.cache
def describe() -> tuple[SettingDescription, ...]:
    """List all settings: those that must be given, then in the structs' order."""
    found = list(_fields(Settings, ""))
    # Single values first, groups after them: the order that TOML demands too.
    found.sort(key=lambda setting: (not setting.required, "." in setting.path))
    return tuple(found)


def describe_account(position: int) -> tuple[SettingDescription, ...]:
    """
    List the settings of one of the file's accounts.

    Args:
        position: Which one, 1 for the first.
    """
    return tuple(
        msgspec.structs.replace(setting, listed_at=position)
        for setting in _fields(AccountSettings, f"accounts[{position}].")
    )


@functools.cache
def by_path() -> dict[str, SettingDescription]:
    """Give the settings by path."""
    return {setting.path: setting for setting in describe()}


@functools.cache
def sections() -> dict[str, str]:
    """Give the groups (tables in TOML), each with the sentence that describes it."""
    return {
        name: (kind.__doc__ or "").strip().partition("\n")[0].removesuffix(".")
        for name, kind in typing.get_type_hints(Settings).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    }


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that is most like `name`, if one is like it at all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Give the end of a message about an unknown name."""
    close = nearest(name, known)
    if close is None:
        return "`bridge config show` lists all settings"
    return f"did you mean {close}?"


def _fields(owner: type[msgspec.Struct], prefix: str) -> Iterator[SettingDescription]:
    for field in msgspec.structs.fields(owner):
        hint = field.type
        if field.name == "accounts":
            # A list, which neither a variable nor a flag can give.
            continue
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _fields(hint, f"{prefix}{field.name}.")
        else:
            yield _describe(prefix + field.name, hint, field.default)


def _describe(path: str, hint: Any, default: Any) -> SettingDescription:
    outer, optional = msgspec.inspect.type_info(hint), False
    # `about` stands outermost, after the pattern of a type that fields share.
    about = typing.get_args(hint)[-1]
    assert isinstance(about, msgspec.Meta), f"{path} doesn't describe itself"
    extra = about.extra or {}
    inner: Any = _unwrapped(outer)
    if isinstance(inner, msgspec.inspect.UnionType):
        optional = inner.includes_none
        inner = _unwrapped(
            next(
                member
                for member in inner.types
                if not isinstance(member, msgspec.inspect.NoneType)
            )
        )
    kind = _kind(inner)
    ending = path.rpartition("_")[2]
    unit = ending if ending in {"seconds", "ms", "bytes"} else None
    default = None if default is msgspec.NODEFAULT else default
    choices = _choices(hint) if kind is Kind.CHOICE else ()
    minimum = getattr(inner, "ge", None)
    exclusive_minimum = getattr(inner, "gt", None)
    maximum = getattr(inner, "le", None)
    return SettingDescription(
        path=path,
        kind=kind,
        description=about.description or "",
        expected=extra["expected"]
        or _expected(kind, choices, unit, minimum, exclusive_minimum, maximum),
        default=default,
        default_text=extra["default_text"] or _in_words(default),
        because=extra["because"],
        unit=unit,
        flag=extra["flag"],
        choices=choices,
        minimum=minimum,
        exclusive_minimum=exclusive_minimum,
        maximum=maximum,
        pattern=getattr(inner, "pattern", None),
        required=extra["required"],
        optional=optional,
        type=hint,
    )


def _choices(hint: Any) -> tuple[str, ...]:
    """Give a Literal's words in their order; msgspec's own list is sorted."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next(filter(None, map(_choices, typing.get_args(hint))), ())


def _unwrapped(info: Any) -> Any:
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return info


_KINDS: tuple[tuple[type[msgspec.inspect.Type], Kind], ...] = (
    (msgspec.inspect.StrType, Kind.TEXT),
    (msgspec.inspect.IntType, Kind.INTEGER),
    (msgspec.inspect.FloatType, Kind.NUMBER),
    (msgspec.inspect.BoolType, Kind.BOOLEAN),
    (msgspec.inspect.LiteralType, Kind.CHOICE),
)


def _kind(info: msgspec.inspect.Type) -> Kind:
    if isinstance(info, msgspec.inspect.CustomType):
        return {Secret: Kind.SECRET, Path: Kind.PATH}[info.cls]
    return next(kind for shape, kind in _KINDS if isinstance(info, shape))


def _expected(  # noqa: PLR0913, PLR0917 - a type's limits, one by one
    kind: Kind,
    choices: tuple[str, ...],
    unit: str | None,
    minimum: float | None,
    exclusive_minimum: float | None,
    maximum: float | None,
) -> str:
    if kind is Kind.BOOLEAN:
        return "true or false"
    if kind is Kind.CHOICE:
        *others, last = choices
        return f"{', '.join(others)} or {last}" if others else last
    if kind not in {Kind.INTEGER, Kind.NUMBER}:
        return "text that is not empty, without control characters"
    words = "a whole number" if kind is Kind.INTEGER else "a number"
    if unit is not None:
        words += f" of {'milliseconds' if unit == 'ms' else unit}"
    if exclusive_minimum is not None:
        words += f" above {exclusive_minimum:g}"
    elif minimum is not None and maximum is not None:
        return f"{words} from {minimum:.0f} to {maximum:.0f}"
    elif minimum is not None:
        words += f", {minimum:.0f} or more"
    if maximum is not None:
        words += f", {maximum:.0f} at most"
    return words


def _in_words(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)
