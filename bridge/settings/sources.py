"""
Where values come from: flags, environment and the TOML file.

A source only says which setting got which raw value. Names are checked here, values
in `loading`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from bridge.settings.model import account_settings, all_settings, sections
from bridge.settings.setting import ENVIRONMENT_PREFIX, Setting


__all__ = ["DEFAULT", "RawValue", "Source", "SourceKind", "Sources", "nearest"]

# What Kubernetes puts into every pod of a namespace with a Service called "bridge",
# and with those of its webhooks and its board, as the chart calls them:
# {NAME}_SERVICE_HOST, {NAME}_SERVICE_PORT[_{PORT NAME}], and Docker's older links
# {NAME}_PORT[_{NUMBER}_{PROTOCOL}[_ADDR|_PORT|_PROTO]].
_SERVICE_LINK: Final = re.compile(
    r"BRIDGE_(?:WEBHOOK_|BOARD_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
)
# For the test suite.
_TEST_PREFIX: Final = "BRIDGE_TEST_"


class SourceKind(StrEnum):
    """The kinds of sources, from the strongest to the weakest."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class Source(msgspec.Struct, frozen=True):
    """
    Where a value came from.

    Attributes:
        kind: Which kind of source.
        name: The flag, the variable, or the file's name; empty for a default.
    """

    kind: SourceKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def place(self) -> str:
        """It as the subject of a message."""
        if self.kind is SourceKind.FLAG:
            return f"the flag {self.name}"
        return f"the {self}" if self.kind is SourceKind.FILE else "the environment"

    @property
    def is_text(self) -> bool:
        """Whether all values are text, and an empty text isn't a value."""
        return self.kind in {SourceKind.FLAG, SourceKind.ENVIRONMENT}


DEFAULT: Final = Source(SourceKind.DEFAULT)


class RawValue(msgspec.Struct, frozen=True):
    """
    A value as a source has it.

    Attributes:
        setting: The setting.
        value: Text from flags and environment, else one of TOML's types.
        source: Where it came from.
        key: The variable or TOML path that has it.
    """

    setting: Setting
    value: Any
    source: Source
    key: str

    @property
    def in_file(self) -> bool:
        """Whether `value` is the path of a file that holds a secret."""
        return self.setting.is_secret and self.key.lower().endswith("_file")

    @property
    def is_blank(self) -> bool:
        """Whether it is a variable without a text: compose files and charts have it."""
        return self.value == "" and self.source.is_text


class Sources:
    """
    What all sources say, flags before the environment before the file.

    Attributes:
        values: The strongest source's value of each path.
        problems: An error for each wrong name, and each setting that a source has
            twice, by the setting's path or the name.
        warnings: A line for each unknown variable.
        accounts: How many accounts the file lists; None if it lists none.
    """

    def __init__(
        self, flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None
    ) -> None:
        self.values: dict[str, RawValue] = {}
        self.problems: dict[str, str] = {}
        self.warnings: list[str] = []
        self.accounts: int | None = None
        if file is not None:
            self._read_file(file)
        self._read_environment(environ)
        self._read_flags(flags)

    def _add(self, setting: Setting, value: Any, source: Source, key: str) -> None:
        """Add a value; a secret's text and its file exclude each other."""
        before = self.values.get(setting.path)
        if before is None or before.source.kind is not source.kind:
            self.values[setting.path] = RawValue(setting, value, source, key)
            return
        text, file = sorted((before.key, key), key=len)
        self.problems[setting.path] = (
            f"{setting.title} is set twice in {source.place}, as {text} and as {file}:"
            " keep one of them"
        )

    def _read_flags(self, flags: Mapping[str, str]) -> None:
        known = {setting.path: setting for setting in all_settings() if setting.flags}
        for path, value in flags.items():
            if (setting := known.get(path)) is not None:
                source = Source(SourceKind.FLAG, setting.flags[0])
                self._add(setting, value, source, path)
            else:
                hint = _suggestion(path, known)
                self.problems[path] = f"there is no flag for {path}: {hint}"

    def _read_environment(self, environ: Mapping[str, str]) -> None:
        """Read the variables that begin with `BRIDGE_`; unknown ones are warnings."""
        known = {name: one for one in all_settings() for name in one.variables}
        for name in sorted(environ):
            if (setting := known.get(name)) is not None:
                source = Source(SourceKind.ENVIRONMENT, name)
                self._add(setting, environ[name], source, name)
            elif (
                name.startswith(ENVIRONMENT_PREFIX)
                and not name.startswith(_TEST_PREFIX)
                and not _SERVICE_LINK.fullmatch(name)
            ):
                self.warnings.append(
                    f"the environment variable {name} isn't a setting and is ignored: "
                    f"{_suggestion(name, known)}"
                )

    def _read_file(self, file: Path) -> None:
        """Read a TOML file; a name that isn't a setting is a problem."""
        # Imported when needed: most starts in a container have no file.
        import tomllib  # noqa: PLC0415

        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            reason = "isn't UTF-8 text"
        except tomllib.TOMLDecodeError as error:
            reason = f"isn't TOML: {_place(error)}"
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it has no valid name"
            reason = f"can't be read: {reason}"
        else:
            self._read_table(content, Source(SourceKind.FILE, os.fspath(file)))
            return
        self.problems["--config"] = f"the file {file} (--config) {reason}"

    def _read_table(self, table: Mapping[str, Any], source: Source) -> None:
        known = {key: setting for setting in all_settings() for key in setting.keys}
        for path, value in _leaves(table, ""):
            where = f"{path} in {source.place}"
            if (setting := known.get(path)) is not None:
                self._add(setting, value, source, path)
            elif path == "accounts":
                self._read_accounts(value, source)
            elif path in sections():
                self.problems[path] = (
                    f"{where} must be a table: write [{path}] and its settings below it"
                )
            else:
                hint = _suggestion(path, [*known, *sections(), "accounts"])
                self.problems[path] = f"{where} isn't a setting: {hint}"

    def _read_accounts(self, tables: Any, source: Source) -> None:
        """Read `[[accounts]]`: each account's settings are settings of their own."""
        place = f"accounts in {source.place}"
        if not isinstance(tables, list):
            self.problems["accounts"] = (
                f"{place} must be a list of tables: write [[accounts]] and an account's"
                " settings below it"
            )
            tables = []
        elif not tables:
            self.problems["accounts"] = (
                f"{place} is an empty list: add an account or remove the list"
            )
        self.accounts = len(tables)
        for position, table in enumerate(tables, 1):
            prefix = f"accounts[{position}]"
            if not isinstance(table, dict):
                self.problems[prefix] = (
                    f"{prefix} in {source.place} must be a table with client_id and "
                    "api_token_file"
                )
                continue
            known = {key: one for one in account_settings(position) for key in one.keys}
            for name, value in table.items():
                path = f"{prefix}.{name}"
                if (setting := known.get(path)) is not None:
                    self._add(setting, value, source, path)
                    continue
                names = [key.rpartition(".")[2] for key in known]
                hint = f"an account has {', '.join(names)}"
                if (close := nearest(name, names)) is not None:
                    hint = f"did you mean {prefix}.{close}?"
                self.problems[path] = (
                    f"{path} (number {position} of [[accounts]]) in {source.place} "
                    f"isn't a setting: {hint}"
                )


def _place(error: ValueError) -> str:
    """Return the place of a syntax error; the words around it could hold a secret."""
    place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
    return f"see {place[1]}" if place else "its tables or keys contradict each other"


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Walk through tables that are sections; another table is one value."""
    for name, value in table.items():
        path = prefix + name
        if isinstance(value, dict) and path in sections():
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, if one is like it at all."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = nearest(name, known)
    if close is None:
        return "`bridge config show` lists all settings"
    return f"did you mean {close}?"
