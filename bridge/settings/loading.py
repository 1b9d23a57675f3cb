"""
Puts the layers together: flag over environment over file over default.

All problems are found in one go, a line each, before anything starts. Names
are read in `layers`, values that stand together are judged in `checks`, listed
accounts in `listing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bridge.errors import ConfigError
from bridge.settings.catalogue import (
    SettingDescription,
    by_path,
    describe,
)
from bridge.settings.checks import contradictions
from bridge.settings.exposure import exposed_connections
from bridge.settings.findings import EffectiveSetting, Inspection, Loaded
from bridge.settings.layers import (
    DEFAULT,
    Given,
    Layer,
    read_environment,
    read_file,
    read_flags,
)
from bridge.settings.listing import SINGLE, Listed, beside_webhooks, excluded, judge
from bridge.settings.model import Settings
from bridge.settings.values import WrongValueError, convert


__all__ = [
    "inspect",
    "load",
    "load_for_board",
    "load_for_reading",
    "load_for_replaying",
]

# What a consumer of the topics needs; a token or an outbox directory that only
# the service can read must not keep anybody from looking at a topic.
_FOR_READING = ("topic", "topics.", "kafka.", "log.", "allow_cleartext_credentials")

# The board is a consumer with a port of its own; `previews` says which topics it has.
_FOR_BOARD = (*_FOR_READING, "previews", "board.")

# A replay makes records as the service does, of events that were read before.
_FOR_REPLAYING = (
    *_FOR_READING,
    "delivery",
    "limits.",
    "outbox.",
    "previews",
    "schema_registry.",
    "shutdown_timeout_seconds",
)


def load(
    flags: Mapping[str, str], environ: Mapping[str, str], config_file: Path | None
) -> Loaded:
    """
    Find every setting of the service.

    Args:
        flags: Texts by path (`kafka.bootstrap_servers`), those given alone.
        environ: The environment.
        config_file: A TOML file, if there is one.

    Returns:
        The settings; `all_accounts` has one at least.

    Raises:
        ConfigError: Something is missing or wrong; a line of the message for
            each, which names the setting, its variable and its flag.
    """
    return _loaded(inspect(flags, environ, config_file))


def load_for_reading(
    flags: Mapping[str, str], environ: Mapping[str, str], config_file: Path | None
) -> Loaded:
    """
    Find what a consumer of the topics needs: topics, Kafka and logs.

    It is `load`, but client id and token may be missing, and values of
    other settings are neither judged nor read: they stay at their defaults.
    """
    return _loaded(inspect(flags, environ, config_file, only=_FOR_READING))


def load_for_board(
    flags: Mapping[str, str], environ: Mapping[str, str], config_file: Path | None
) -> Loaded:
    """
    Find what `bridge board` needs: what a consumer does, its own, and `previews`.

    Apart from that it is as `load_for_reading`.
    """
    return _loaded(inspect(flags, environ, config_file, only=_FOR_BOARD))


def load_for_replaying(
    flags: Mapping[str, str], environ: Mapping[str, str], config_file: Path | None
) -> Loaded:
    """
    Find what a replay of dead letters needs: all but accounts, dryAPI and health.

    Apart from that it is as `load_for_reading`.
    """
    return _loaded(inspect(flags, environ, config_file, only=_FOR_REPLAYING))


def _loaded(inspection: Inspection) -> Loaded:
    if inspection.settings is None:
        raise ConfigError("\n".join(inspection.problems))
    return Loaded(
        settings=inspection.settings,
        warnings=inspection.warnings,
        sources={one.setting.path: one.source for one in inspection.effective},
    )


def inspect(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    config_file: Path | None,
    *,
    only: Sequence[str] = (),
) -> Inspection:
    """
    Look at every setting without failing.

    Args:
        flags: As in `load`.
        environ: As in `load`.
        config_file: As in `load`.
        only: What matters, paths and sections with their dot, where client id and
            token may be missing; all that the service needs if it is empty.
    """
    reading = bool(only)
    layers = [read_environment(environ), read_flags(flags)]
    if config_file is not None:
        layers.insert(0, read_file(config_file))
    raw = layers[0].accounts
    listed = Listed() if raw is None else judge(raw, reading=reading)
    considered = _considered(only, listed=raw is not None)

    problems = {
        path: line
        for layer in layers
        for path, line in layer.conflicts.items()
        if path in considered
    }
    if raw is not None and not reading:
        problems |= excluded(layers, raw)
    given: dict[str, Given] = {}
    for layer in layers:
        given.update(layer.given)
    given = {
        path: given[path]
        for path in by_path()
        if path in given and (path in considered or path in problems)
    }
    values = _converted(given, problems)
    for path, setting in considered.items():
        if path in problems or values.get(path) is not None:
            continue
        if setting.required and not reading:
            problems[path] = f"{setting.named} is missing: {_how_to_set(setting)}"
        else:
            values.setdefault(path, setting.default)
    if raw is not None and "webhook.listen" in values:
        are_taken = values["webhook.listen"] is not None
        listed = beside_webhooks(listed, raw, are_taken=are_taken)
    for path, sentence in contradictions(values):
        problems.setdefault(path, f"{by_path()[path].named} {sentence}")
    # Who reads a topic or replays is not told each time.
    exposed = () if reading else exposed_connections(values)
    warnings = [f"{by_path()[path].named} {sentence}" for path, sentence in exposed]
    warnings += listed.warnings
    return _inspection(layers, given, values, problems, listed, warnings)


def _converted(given: Mapping[str, Given], problems: dict[str, str]) -> dict[str, Any]:
    """Convert what has no problem yet, and add the problems that this shows."""
    values: dict[str, Any] = {}
    for path, one in given.items():
        if path in problems:
            continue
        try:
            values[path] = convert(one)
        except WrongValueError as wrong:
            problems[path] = f"{one.setting.named} {wrong}"
    return values


def _inspection(  # noqa: PLR0913, PLR0917 - all that the steps before it found
    layers: list[Layer],
    given: Mapping[str, Given],
    values: Mapping[str, Any],
    problems: Mapping[str, str],
    listed: Listed,
    warnings: Sequence[str],
) -> Inspection:
    lines = [line for layer in layers for line in layer.problems]
    # In the order of the catalogue: what is missing first.
    lines += [problems[path] for path in by_path() if path in problems]
    lines += listed.problems
    settings = None
    if not lines:
        settings = _build({path: values[path] for path in given}, listed.accounts)
    effective = [
        EffectiveSetting(
            setting=setting,
            value=_effective_value(setting.path, values, settings),
            source=given[setting.path].source if setting.path in given else DEFAULT,
            problem=problems.get(setting.path),
        )
        for setting in describe()
    ]
    # Behind those of no group, as TOML has it.
    first = next(i for i, one in enumerate(effective) if "." in one.setting.path)
    effective[first:first] = listed.effective
    passed_over = tuple(line for layer in layers for line in layer.warnings)
    return Inspection(
        settings, tuple(effective), tuple(lines), (*passed_over, *warnings)
    )


def _considered(only: Sequence[str], *, listed: bool) -> dict[str, SettingDescription]:
    """Give what is judged: of a list's neighbours only that they are there."""
    sections = tuple(each for each in only if each.endswith("."))
    return {
        path: setting
        for path, setting in by_path().items()
        if not (listed and path in SINGLE)
        and (not only or path in only or path.startswith(sections))
    }


def _build(
    values: Mapping[str, Any], accounts: Sequence[Mapping[str, Any]]
) -> Settings:
    """Nest the values and let msgspec make the structs, with their defaults."""
    nested: dict[str, Any] = {"accounts": accounts}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    return msgspec.convert(nested, Settings)


def _effective_value(
    path: str, values: Mapping[str, Any], settings: Settings | None
) -> Any:
    # A default that depends on the machine or on other settings is known only
    # to the finished structs.
    if settings is not None:
        if path == "topics.dead_letters":
            return settings.dead_letter_topic
        if path == "topics.gaps":
            return settings.gap_topic
        value: Any = settings
        for part in path.split("."):
            value = getattr(value, part)
        return value
    return values.get(path)


def _how_to_set(setting: SettingDescription) -> str:
    ways = " or ".join(setting.environment_names)
    if setting.flag is not None:
        ways += f" or {setting.flag}"
    if setting.path == "client_id":
        ways += ", or several [[accounts]] in the file of --config,"
    return f"set {ways} to {setting.expected}"
