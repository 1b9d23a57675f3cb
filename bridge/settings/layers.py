"""
Where values come from: flags, environment and file, read and named.

A layer only says which setting got which raw value and where. It judges
names, not values, and opens no file but the one with the settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from bridge.settings.catalogue import (
    ENVIRONMENT_PREFIX,
    SettingDescription,
    by_path,
    describe,
    sections,
    suggestion,
)


__all__ = [
    "DEFAULT",
    "Given",
    "Layer",
    "RawList",
    "Source",
    "SourceKind",
    "read_environment",
    "read_file",
    "read_flags",
]

# What Kubernetes puts into every pod of a namespace with a Service called "bridge",
# and with those of its webhooks and its board, as the chart calls them:
# {NAME}_SERVICE_HOST, {NAME}_SERVICE_PORT[_{PORT NAME}], and Docker's older links
# {NAME}_PORT[_{NUMBER}_{PROTOCOL}[_ADDR|_PORT|_PROTO]].
_SERVICE_LINK = re.compile(
    r"BRIDGE_(?:WEBHOOK_|BOARD_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
)
# Left to the test suite, which points at brokers of its own with them.
_TEST_PREFIX = "BRIDGE_TEST_"


class SourceKind(StrEnum):
    """The layers, from the strongest to the weakest."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class Source(msgspec.Struct, frozen=True):
    """
    Where a value came from.

    Attributes:
        kind: The layer.
        name: The flag, the variable, or the file's name; empty for a default.
    """

    kind: SourceKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    @property
    def says(self) -> str:
        """It as the subject of a message."""
        return {
            SourceKind.FLAG: f"the flag {self.name}",
            SourceKind.ENVIRONMENT: "the environment",
            SourceKind.FILE: f"the file {self.name}",
            SourceKind.DEFAULT: "the default",
        }[self.kind]


DEFAULT = Source(SourceKind.DEFAULT)


class Given(msgspec.Struct, frozen=True):
    """
    A raw value that a layer gives to a setting.

    Attributes:
        setting: The setting.
        value: As it came: text from flags and environment, else of TOML's types.
        source: Where it came from.
        in_file: Whether `value` is the path of a file that holds a secret.
    """

    setting: SettingDescription
    value: Any
    source: Source
    in_file: bool = False


class RawList(msgspec.Struct, frozen=True):
    """
    The file's list of accounts before anybody looked into it.

    Attributes:
        value: What TOML made of it.
        source: The file.
    """

    value: Any
    source: Source


class Layer(msgspec.Struct):
    """
    What one source says.

    Attributes:
        given: Values by path.
        conflicts: A line by path for each setting that it gives twice.
        problems: A line for each name that is wrong.
        warnings: A line for each name that is passed over.
        accounts: The list of accounts, if the source has one: only a file can.
    """

    given: dict[str, Given] = {}
    conflicts: dict[str, str] = {}
    problems: list[str] = []
    warnings: list[str] = []
    accounts: RawList | None = None

    def add(self, given: Given) -> None:
        """Take a value; a secret's text and its file exclude each other."""
        path = given.setting.path
        before = self.given.get(path)
        if before is None:
            self.given[path] = given
        elif given.source.kind is SourceKind.ENVIRONMENT:
            text, file = given.setting.environment_names
            self._conflict(given, text, file)
        else:
            text, file = given.setting.toml_names
            self._conflict(given, text, file)

    def _conflict(self, given: Given, text: str, file: str) -> None:
        self.conflicts[given.setting.path] = (
            f"{given.setting.named} is set twice in {given.source.says}, as {text} "
            f"and as {file}: keep one of them"
        )


def read_flags(flags: Mapping[str, str]) -> Layer:
    """
    Take the flags.

    Args:
        flags: Text by path (`kafka.bootstrap_servers`); only settings that
            have a flag may occur.
    """
    layer = Layer()
    known = {setting.path: setting for setting in describe() if setting.flag}
    for path, value in flags.items():
        setting = known.get(path)
        if setting is not None and setting.flag is not None:
            layer.add(Given(setting, value, Source(SourceKind.FLAG, setting.flag)))
        else:
            layer.problems.append(
                f"there is no flag for {path}: {suggestion(path, known)}"
            )
    return layer


def read_environment(environ: Mapping[str, str]) -> Layer:
    """Take the variables that begin with `BRIDGE_`; unknown ones are warnings."""
    layer = Layer()
    known = {
        name: (setting, position == 1)
        for setting in describe()
        for position, name in enumerate(setting.environment_names)
    }
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name in known:
            setting, in_file = known[name]
            source = Source(SourceKind.ENVIRONMENT, name)
            layer.add(Given(setting, environ[name], source, in_file))
        elif not name.startswith(_TEST_PREFIX) and not _SERVICE_LINK.fullmatch(name):
            layer.warnings.append(
                f"the environment variable {name} is no setting and is passed over: "
                f"{suggestion(name, known)}"
            )
    return layer


def read_file(file: Path) -> Layer:
    """Take a TOML file; a name that is no setting is a problem."""
    # Imported when needed: most starts in a container have no file.
    import tomllib  # noqa: PLC0415

    layer = Layer()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        layer.problems.append(f"the file {file} (--config) is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        layer.problems.append(
            f"the file {file} (--config) is not TOML: {_place(error)}"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it has no valid name"
        layer.problems.append(f"the file {file} (--config) can't be read: {reason}")
    else:
        source = Source(SourceKind.FILE, os.fspath(file))
        known = {
            name: (setting, position == 1)
            for setting in describe()
            for position, name in enumerate(setting.toml_names)
        }
        for path, value in _leaves(content, ""):
            if path in known:
                setting, in_file = known[path]
                layer.add(Given(setting, value, source, in_file))
            elif path == "accounts":
                layer.accounts = RawList(value, source)
            elif path in sections():
                layer.problems.append(
                    f"{path} in {source.says} must be a table: write [{path}] and its "
                    "settings below it"
                )
            else:
                names = [*known, *sections(), "accounts"]
                layer.problems.append(
                    f"{path} in {source.says} is no setting: {suggestion(path, names)}"
                )
    return layer


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Walk through tables that are groups; what else is a table stays one value."""
    for name, value in table.items():
        path = prefix + name
        if isinstance(value, dict) and path in sections() and path not in by_path():
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _place(error: ValueError) -> str:
    """Give the place of a syntax error; the words around it could hold a secret."""
    place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
    return f"see {place[1]}" if place else "its tables or keys contradict each other"
