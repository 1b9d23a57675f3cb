"""
Puts the sources together: flag over environment over file over default.

All problems are found at once, one line each, before anything starts.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from bridge.errors import ConfigError
from bridge.settings.checks import cleartext_warnings, contradictions
from bridge.settings.model import (
    Account,
    Settings,
    account_settings,
    all_settings,
    sections,
)
from bridge.settings.secret import Secret
from bridge.settings.setting import WEBHOOK_SECRETS, Setting
from bridge.settings.sources import DEFAULT, RawValue, Source, Sources, nearest
from bridge.text import hide


__all__ = ["EffectiveSetting", "Inspection", "Loaded", "Scope", "inspect", "load"]

_FOR_READING: Final = ("topic", "topics", "kafka", "log", "allow_cleartext_credentials")


class Scope(Enum):
    """
    Which settings a command needs: names of settings and sections.

    Others are neither checked nor read: a token or an outbox directory that only the
    service can read must not keep a user from reading a topic.
    """

    SERVICE = ()
    """All of them."""

    READING = _FOR_READING
    """What reads topics."""

    BOARD = (*_FOR_READING, "previews", "board")
    """The board."""

    REPLAY = (
        *_FOR_READING,
        *("delivery", "limits", "outbox", "previews", "schema_registry"),
        "shutdown_timeout_seconds",
    )
    """The replay of dead letters, which writes as the service does."""

    def has(self, setting: Setting) -> bool:
        """Whether a setting belongs to it."""
        if self is Scope.SERVICE:
            return True
        return setting.path in self.value or setting.section in self.value


class Loaded(msgspec.Struct, frozen=True):
    """
    Settings that may be used.

    Attributes:
        settings: The values.
        warnings: A line for each unknown variable, for each unencrypted connection to
            another machine, and for accounts whose webhooks are refused while those of
            others are accepted.
    """

    settings: Settings
    warnings: tuple[str, ...]


class EffectiveSetting(msgspec.Struct, frozen=True):
    """
    A setting and its value, right or wrong.

    Attributes:
        setting: The setting.
        value: Its value; None for none, a missing or a wrong one.
        source: Where it came from.
        problem: What is wrong with it, one line, or None.
    """

    setting: Setting
    value: Any
    source: Source
    problem: str | None


class Inspection(msgspec.Struct, frozen=True):
    """
    What the sources say, whether or not the service could run with it.

    Attributes:
        settings: The values; None if there is a problem.
        effective: Every setting, accounts between those without a section and others.
        problems: One line for each error.
        warnings: As in `Loaded`.
    """

    settings: Settings | None
    effective: tuple[EffectiveSetting, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def load(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    config_file: Path | None,
    scope: Scope = Scope.SERVICE,
) -> Loaded:
    """
    Load the settings.

    Args:
        flags: Texts by path (`kafka.bootstrap_servers`), only those given.
        environ: The environment.
        config_file: A TOML file, if there is one.
        scope: What they are for. Without accounts, client id and token may be missing.

    Raises:
        ConfigError: Something is missing or wrong: one line for each error, with the
            setting's path, variable and flag.
    """
    found = inspect(flags, environ, config_file, scope)
    if found.settings is None:
        raise ConfigError("\n".join(found.problems))
    return Loaded(found.settings, found.warnings)


def inspect(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    config_file: Path | None,
    scope: Scope = Scope.SERVICE,
) -> Inspection:
    """Read every setting without failing. Secrets are hidden in all output then."""
    sources = Sources(flags, environ, config_file)
    given, has_list = sources.values, sources.accounts is not None
    is_service = scope is Scope.SERVICE
    settings = _settings(sources.accounts or 0)
    considered = [
        setting
        for setting in settings.values()
        if scope.has(setting) and not (has_list and setting.path in _SINGLE)
    ]
    names = {setting.path for setting in considered}
    problems = {
        path: line
        for path, line in sources.problems.items()
        if path in names or path not in settings
    }
    if has_list and is_service:
        problems |= _excluded(given)
    values = _values(considered, given, problems, is_service=is_service)
    for path, sentence in [*contradictions(values), *_repeated(values)]:
        problems.setdefault(path, f"{settings[path].title} {sentence}")
    warnings = sources.warnings
    if is_service:
        found = cleartext_warnings(values)
        warnings += [f"{settings[path].title} {sentence}" for path, sentence in found]
        if not problems:
            warnings += _without_webhooks(values)
    # Wrong names first, then the order of the settings: what is missing comes first.
    order = [*(path for path in problems if path not in settings), *settings]
    lines = tuple(problems[path] for path in order if path in problems)
    final = None if lines else _build(values, given)
    effective = tuple(
        EffectiveSetting(
            setting,
            _effective_value(setting, values, final),
            given[path].source if path in given else DEFAULT,
            problems.get(path),
        )
        for path, setting in settings.items()
        if is_service or not setting.account
    )
    return Inspection(final, effective, lines, tuple(warnings))


# The one account's settings, which `[[accounts]]` replaces, and what to do instead.
_SINGLE: Final = {
    "client_id": "keep the one account or the list",
    "api_token": "keep the one account or the list",
    "webhook.secret": "give each account a webhook_secret_file of its own",
}


def _settings(accounts: int) -> dict[str, Setting]:
    """List all settings, those of accounts before the first section, as TOML wants."""
    listed = [
        setting
        for position in range(1, accounts + 1)
        for setting in account_settings(position)
    ]
    listed.extend(all_settings())
    listed.sort(key=lambda setting: (bool(setting.section), not setting.account))
    return {setting.path: setting for setting in listed}


def _excluded(given: Mapping[str, RawValue]) -> dict[str, str]:
    """Find the one account's settings beside a list of accounts."""
    return {
        path: f"{raw.setting.title} is set by {raw.source.place}, but the file of"
        f" --config lists [[accounts]]: {remedy}"
        for path, remedy in _SINGLE.items()
        if (raw := given.get(path)) is not None and not raw.is_blank
    }


def _values(
    considered: Iterable[Setting],
    given: Mapping[str, RawValue],
    problems: dict[str, str],
    *,
    is_service: bool,
) -> dict[str, Any]:
    """Convert what is given, and add defaults and problems."""
    values: dict[str, Any] = {}
    for setting in considered:
        path = setting.path
        if path in problems or setting.section in problems:
            continue
        value = None
        if path in given:
            try:
                value = _convert(given[path])
            except _WrongValueError as wrong:
                problems[path] = f"{setting.title} {wrong}"
                continue
        values[path] = setting.default if value is None else value
        if value is None and setting.required and is_service:
            problems[path] = f"{setting.title} is missing: {_how_to_set(setting)}"
    return values


def _how_to_set(setting: Setting) -> str:
    names = [*setting.variables, *setting.flags[:1]]
    if setting.account:
        names = [key.rpartition(".")[2] for key in setting.keys]
    ways = " or ".join(names)
    if setting.path == "client_id":
        ways += ", or several [[accounts]] in the file of --config,"
    return f"set {ways} to {setting.expected}"


def _repeated(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find client ids that are in the list twice: all events would be read twice."""
    seen: dict[str, str] = {}
    for path, value in values.items():
        if path.endswith("].client_id") and value:
            if value in seen:
                yield path, f"is that of {seen[value]} too: each account is listed once"
            seen.setdefault(value, path)


def _without_webhooks(values: Mapping[str, Any]) -> Iterator[str]:
    """Name the accounts without a webhook secret, where others have one."""
    without = [
        values[path.replace("webhook_secret", "client_id")]
        for path, value in values.items()
        if path.endswith("].webhook_secret") and value is None
    ]
    if without and values.get("webhook.listen") is not None:
        yield (
            f"webhooks of {', '.join(without)} are refused: the account has no "
            "webhook_secret_file in [[accounts]]"
        )


def _build(values: Mapping[str, Any], given: Mapping[str, Any]) -> Settings:
    """Nest the given values and make the dataclasses, which have the defaults."""
    tables: dict[str, dict[str, Any]] = {}
    for path in values.keys() & given.keys():
        section, _, name = path.rpartition(".")
        tables.setdefault(section, {})[name] = values[path]
    top, kinds = tables.pop("", {}), sections()
    names = sorted(tables.keys() - kinds, key=lambda name: (len(name), name))
    accounts = tuple(Account(**tables.pop(name)) for name in names)
    top |= {name: kinds[name](**table) for name, table in tables.items()}
    return Settings(**top, accounts=accounts)


def _effective_value(
    setting: Setting, values: Mapping[str, Any], settings: Settings | None
) -> Any:
    # Defaults that depend on the machine or other settings are in the settings only.
    if settings is None or setting.account:
        return values.get(setting.path)
    derived = {
        "topics.dead_letters": settings.dead_letter_topic,
        "topics.gaps": settings.gap_topic,
    }
    return derived.get(setting.path) or attrgetter(setting.path)(settings)


# -- Values --------------------------------------------------------------------------

# Enough to recognize a value, and short enough for one line.
_SHOWN_CHARACTERS: Final = 60

# Paths are appended to them, and ce_source must not have two spellings.
_BASE_URLS: Final = frozenset({"api_url", "pusher.url"})


class _WrongValueError(Exception):
    """What is wrong with a value: the end of a sentence that begins with its names."""


def _convert(raw: RawValue) -> Any:
    """Convert a value. All messages are our own: msgspec's could show a secret."""
    setting, value = raw.setting, raw.value
    if setting.is_secret:
        secret = _secret(raw)
        secret.hide_with(_hide_each if setting.form is WEBHOOK_SECRETS else hide)
        return secret
    if value == "":
        if setting.optional and not setting.required and raw.source.is_text:
            return None
        raise _WrongValueError(
            f'must be {setting.expected}, but {raw.source.place} has ""'
        )
    try:
        converted = _typed(setting, value, is_text=raw.source.is_text)
    except (ValueError, msgspec.ValidationError):
        raise _WrongValueError(_wrong(raw)) from None
    if setting.path in _BASE_URLS:
        return converted.rstrip("/")
    if setting.path == "kafka.bootstrap_servers":
        return ",".join(part.strip() for part in converted.split(","))
    return converted


def _hide_each(text: str) -> None:
    for one in text.split():
        hide(one)


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's one raises


def _typed(setting: Setting, value: Any, *, is_text: bool) -> Any:
    if isinstance(value, str):
        if not value.isprintable():
            raise ValueError("control characters")
        # `INFO` and `sasl_ssl` are common spellings, too.
        folded = {choice.casefold(): choice for choice in setting.choices}
        value = folded.get(value.casefold(), value)
        if setting.type is Path:
            return _path(value)
        if setting.form is not None and not setting.form.fits(value):
            raise ValueError("not of its form")
    # Only these may be written as text, and "null" would be None.
    lenient = is_text and (setting.is_number or setting.type is bool)
    converted = msgspec.convert(value, setting.type, strict=not lenient)
    if setting.is_number and not setting.is_within(converted):
        raise ValueError("not finite, or not within the limits")
    return converted


def _secret(raw: RawValue) -> Secret:
    setting, value, place = raw.setting, raw.value, raw.source.place
    fits = bool if setting.form is None else setting.form.fits
    must = f"must be {setting.expected}, but"
    if not isinstance(value, str) or not value:
        must = "must be the path of a file, but" if raw.in_file else must
        found = 'has ""' if value == "" else "has no text"
        raise _WrongValueError(f"{must} {place} {found}")
    if raw.in_file:
        file = f"the file that {raw.key} in {place} names"
        what = f"{file} holds"
        try:
            secret = Secret.from_file(_path(value), accepts=fits)
        except ConfigError as error:
            raise _WrongValueError(f"{must} {file} {error}") from None
    else:
        what, secret = f"{place} has", Secret(value)
    if not fits(secret.reveal()):
        raise _WrongValueError(f"{must} what {what} isn't (it is not shown)")
    return secret


def _wrong(raw: RawValue) -> str:
    setting = raw.setting
    line = f"must be {setting.expected}, but {raw.source.place} has {_shown(raw)}"
    if setting.choices and isinstance(raw.value, str):
        choices = {choice.upper(): choice for choice in setting.choices}
        close = nearest(raw.value.upper(), choices)
        if close is not None:
            line += f": did you mean {choices[close]}?"
    return line


def _shown(raw: RawValue) -> str:
    """Show a wrong value in a line, unless it may hold credentials."""
    form = raw.setting.form
    if isinstance(raw.value, dict):
        return "a table"
    if isinstance(raw.value, list):
        return "a list"
    if form is not None and form.is_private:
        return "something else (not shown)"
    text = json.dumps(raw.value, default=str)
    if "@" in text:
        return "something with an @ (not shown, it may hold credentials)"
    if len(text) > _SHOWN_CHARACTERS:
        return f"{text[:_SHOWN_CHARACTERS]}…"
    return text
