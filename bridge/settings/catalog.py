"""
The list of all settings, made from the structs, and their names in messages.

Help, `bridge config show`, documentation and the chart's schema are made from it.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from bridge.settings.metadata import About, Form
from bridge.settings.model import AccountSettings, Settings
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

_TEXT: Final = "text that is not empty, without control characters"


class Kind(StrEnum):
    """What a setting's value is."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    PATH = "path"
    SECRET = "secret"  # noqa: S105 - a word, not one


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """
    One setting, without its value.

    Attributes:
        path: Its path in TOML, parts joined by dots.
        type: Its annotation, for `msgspec.convert`.
        kind: What its value is.
        description: What it is, without a full stop.
        expected: What a value must be; follows "must be".
        form: What its text must look like, if there is more to say than its kind.
        default: The default; None for none, or one that depends on the machine.
        default_text: The default in words.
        because: Where the default comes from.
        flags: Its flags; the first is the one in messages.
        choices: The values of a `Kind.CHOICE`.
        minimum: The least value.
        exclusive_minimum: All values are greater.
        maximum: The greatest value.
        required: Whether the service can't run without it.
        optional: Whether it may be left without a value.
        account: The position in `[[accounts]]` of the account that it belongs to, from
            1; None for a setting outside that list.
    """

    path: str
    type: Any
    kind: Kind
    description: str
    expected: str
    form: Form | None
    default: str | float | bool | None
    default_text: str
    because: str | None
    flags: tuple[str, ...]
    choices: tuple[str, ...]
    minimum: float | None
    exclusive_minimum: float | None
    maximum: float | None
    required: bool
    optional: bool
    account: int | None = None

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
        for setting in _fields(AccountSettings, f"accounts[{position}].")
    )


@functools.cache
def by_path() -> dict[str, Setting]:
    """Return all settings by path."""
    return {setting.path: setting for setting in all_settings()}


@functools.cache
def sections() -> dict[str, str]:
    """Return the sections (tables in TOML) with their descriptions."""
    return {
        name: (kind.__doc__ or "").strip().partition("\n")[0].removesuffix(".")
        for name, kind in typing.get_type_hints(Settings).items()
        if _is_section(kind)
    }


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, if one is like it at all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else None


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _fields(owner: type[msgspec.Struct], prefix: str) -> Iterator[Setting]:
    for field in msgspec.structs.fields(owner):
        if _is_section(field.type):
            yield from _fields(field.type, f"{prefix}{field.name}.")
        elif field.name != "accounts":
            yield _describe(prefix + field.name, field.type, field.default)


def _describe(path: str, hint: Any, default: Any) -> Setting:
    meta = typing.get_args(hint)[-1]
    assert isinstance(meta, msgspec.Meta), f"{path} has no `about`"
    more: About = (meta.extra or {})["about"]
    inner: Any = msgspec.inspect.type_info(hint)
    if isinstance(inner, msgspec.inspect.Metadata):
        inner = inner.type
    optional = isinstance(inner, msgspec.inspect.UnionType)
    if optional:
        (inner,) = (one for one in inner.types if not isinstance(one, _NONE))
    kind = _kind(inner)
    limits = {name: getattr(inner, name, None) for name in ("ge", "gt", "le")}
    default = None if default is msgspec.NODEFAULT else default
    setting = Setting(
        path=path,
        type=hint,
        kind=kind,
        description=meta.description or "",
        expected="",
        form=more.form,
        default=default,
        default_text=more.default_text or _in_words(default),
        because=more.because,
        flags=more.flags,
        choices=_choices(hint) if kind is Kind.CHOICE else (),
        minimum=limits["ge"],
        exclusive_minimum=limits["gt"],
        maximum=limits["le"],
        required=more.required,
        optional=optional,
    )
    expected = more.form.expected if more.form else _expected(setting)
    return msgspec.structs.replace(setting, expected=expected)


def _choices(hint: Any) -> tuple[str, ...]:
    """Return a Literal's values in their order; msgspec sorts them."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    return next(filter(None, map(_choices, typing.get_args(hint))), ())


_NONE: Final = msgspec.inspect.NoneType
_KINDS: Final = {
    msgspec.inspect.StrType: Kind.TEXT,
    msgspec.inspect.IntType: Kind.INTEGER,
    msgspec.inspect.FloatType: Kind.NUMBER,
    msgspec.inspect.BoolType: Kind.BOOLEAN,
    msgspec.inspect.LiteralType: Kind.CHOICE,
}


def _kind(info: msgspec.inspect.Type) -> Kind:
    if isinstance(info, msgspec.inspect.CustomType):
        return {Secret: Kind.SECRET, Path: Kind.PATH}[info.cls]
    return _KINDS[type(info)]


def _expected(setting: Setting) -> str:
    if setting.kind is Kind.SECRET:
        return "text that is not empty"
    if setting.kind is Kind.BOOLEAN:
        return "true or false"
    if setting.kind is Kind.CHOICE:
        *others, last = setting.choices
        return f"{', '.join(others)} or {last}"
    if setting.kind not in {Kind.INTEGER, Kind.NUMBER}:
        return _TEXT
    words = "a whole number" if setting.kind is Kind.INTEGER else "a number"
    if setting.unit is not None:
        words += f" of {'milliseconds' if setting.unit == 'ms' else setting.unit}"
    if setting.exclusive_minimum is not None:
        words += f" above {setting.exclusive_minimum:g}"
    elif setting.minimum is not None and setting.maximum is not None:
        return f"{words} from {setting.minimum:.0f} to {setting.maximum:.0f}"
    elif setting.minimum is not None:
        words += f", {setting.minimum:.0f} or more"
    if setting.maximum is not None:
        words += f", {setting.maximum:.0f} at most"
    return words


def _in_words(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
