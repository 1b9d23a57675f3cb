"""
The accounts that the TOML file lists, read and judged one by one.

Owns what is said of a list as such: its shape, its keys, that no account stands in
it twice, and that the single one isn't given beside it. A value alone is judged in
`values`, by the rules of the single account's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bridge.settings.catalogue import (
    SettingDescription,
    by_path,
    describe_account,
    nearest,
)
from bridge.settings.findings import EffectiveSetting
from bridge.settings.layers import DEFAULT, Given, Layer, RawList, Source, SourceKind
from bridge.settings.values import WrongValueError, convert


__all__ = ["SINGLE", "Listed", "beside_webhooks", "excluded", "judge"]

# The one account's settings, which a list takes the place of, and what to do instead.
SINGLE: Final = {
    "client_id": "keep the one account or the list",
    "api_token": "keep the one account or the list",
    "webhook.secret": "give each account a webhook_secret_file of its own",
}


class Listed(msgspec.Struct, frozen=True):
    """
    What the file's list of accounts comes to.

    Attributes:
        effective: The settings of each account, one account after the other.
        problems: A line for each thing that is wrong.
        accounts: The values of each account, by key.
        warnings: A line for each thing that is odd.
    """

    effective: tuple[EffectiveSetting, ...] = ()
    problems: tuple[str, ...] = ()
    accounts: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


def judge(raw: RawList, *, reading: bool) -> Listed:
    """
    Read the list.

    Args:
        raw: What stands in the file.
        reading: Whether only names are judged, because no account is needed.
    """
    tables = raw.value
    if not isinstance(tables, list):
        return _wrong(
            f"accounts in {raw.source.says} must be a list of tables: write "
            "[[accounts]] and an account's settings below it"
        )
    if not tables and not reading:
        return _wrong(
            f"accounts in {raw.source.says} is an empty list: name an account or "
            "leave it out"
        )
    problems: list[str] = []
    effective: list[EffectiveSetting] = []
    for position, table in enumerate(tables, 1):
        if not isinstance(table, dict):
            problems.append(
                f"accounts[{position}] in {raw.source.says} must be a table with "
                "client_id and api_token_file"
            )
            continue
        layer = _layer(table, position, raw)
        problems += layer.problems
        if not reading:
            effective += list(_effective(layer, position, effective, raw.source))
    problems += [one.problem for one in effective if one.problem is not None]
    return Listed(tuple(effective), tuple(problems), tuple(_accounts(effective)))


def excluded(layers: Iterable[Layer], raw: RawList) -> dict[str, str]:
    """
    Say which of the single account's settings stand beside the list.

    Args:
        layers: Every layer.
        raw: The list.

    Returns:
        A line by path.
    """
    lines = {}
    for path, remedy in SINGLE.items():
        places = [
            layer.given[path].source.says
            for layer in layers
            if path in layer.given and not _is_blank(layer.given[path])
        ]
        if places:
            lines[path] = (
                f"{by_path()[path].named} is set by {' and by '.join(places)}, but "
                f"{raw.source.says} lists [[accounts]]: {remedy}"
            )
    return lines


def beside_webhooks(listed: Listed, raw: RawList, *, are_taken: bool) -> Listed:
    """
    Hold the accounts' webhook secrets against whether webhooks are taken.

    Args:
        listed: What the list comes to.
        raw: The list.
        are_taken: Whether `webhook.listen` is set.

    Returns:
        The same with what this shows.
    """
    problems, warnings = list(listed.problems), list(listed.warnings)
    secrets = [one for one in listed.effective if one.setting.rules == "webhook_secret"]
    given = [one for one in secrets if one.source is not DEFAULT]
    without = [
        account["client_id"]
        for account in listed.accounts
        if account["webhook_secret"] is None
    ]
    if not are_taken:
        problems += [
            f"{one.setting.named} is set, but webhook.listen is not"
            for one in given
            if one.problem is None
        ]
    elif secrets and not given:
        problems.append(
            f"{by_path()['webhook.listen'].named} is set, but none of the "
            f"[[accounts]] in {raw.source.says} has a webhook_secret_file"
        )
    elif without and not problems:
        warnings.append(
            f"webhooks of {', '.join(without)} are refused: no webhook_secret_file "
            f"stands beside that client_id in {raw.source.says}"
        )
    return msgspec.structs.replace(
        listed, problems=tuple(problems), warnings=tuple(warnings)
    )


def _is_blank(given: Given) -> bool:
    # Compose files and charts hand on what they don't have as nothing.
    return given.value == "" and given.source.kind is not SourceKind.FILE


def _wrong(line: str) -> Listed:
    return Listed(problems=(line,))


def _layer(table: Mapping[str, Any], position: int, raw: RawList) -> Layer:
    """Sort an account's keys; one that is no setting is a problem."""
    layer = Layer()
    known = {
        name.rpartition(".")[2]: (setting, in_file)
        for setting in describe_account(position)
        for in_file, name in enumerate(setting.toml_names)
    }
    for key, value in table.items():
        if key in known:
            setting, in_file = known[key]
            layer.add(Given(setting, value, raw.source, bool(in_file)))
            continue
        close = nearest(key, known)
        hint = f"did you mean accounts[{position}].{close}?"
        if close is None:
            hint = f"an account has {', '.join(known)}"
        layer.problems.append(
            f"accounts[{position}].{key} (number {position} of [[accounts]]) in "
            f"{raw.source.says} is no setting: {hint}"
        )
    return layer


def _effective(
    layer: Layer, position: int, before: Sequence[EffectiveSetting], source: Source
) -> Iterator[EffectiveSetting]:
    """Judge an account's values, each alone and the client id beside the others."""
    for setting in describe_account(position):
        given = layer.given.get(setting.path)
        if given is None:
            problem = _missing(setting, source) if setting.required else None
            yield EffectiveSetting(setting, setting.default, DEFAULT, problem)
            continue
        value, problem = None, layer.conflicts.get(setting.path)
        if problem is None:
            try:
                value = convert(given)
            except WrongValueError as wrong:
                problem = f"{setting.named} {wrong}"
            else:
                problem = _repeated(setting, value, before, source)
        value = None if problem is not None else value
        yield EffectiveSetting(setting, value, given.source, problem)


def _missing(setting: SettingDescription, source: Source) -> str:
    ways = " or ".join(name.rpartition(".")[2] for name in setting.toml_names)
    return (
        f"{setting.named} is missing in {source.says}: set {ways} to {setting.expected}"
    )


def _repeated(
    setting: SettingDescription,
    value: Any,
    before: Sequence[EffectiveSetting],
    source: Source,
) -> str | None:
    """Say whether an account has another's client id, which would read all twice."""
    if setting.rules != "client_id":
        return None
    for other in before:
        if other.setting.rules == "client_id" and other.value == value:
            return (
                f"{setting.named} is that of {other.setting.named} too: {source.says} "
                "lists an account twice"
            )
    return None


def _accounts(effective: Iterable[EffectiveSetting]) -> Iterator[dict[str, Any]]:
    """Give the values account by account, as the structs' fields."""
    accounts: dict[str, dict[str, Any]] = {}
    for one in effective:
        account, _, field = one.setting.path.rpartition(".")
        accounts.setdefault(account, {})[field] = one.value
    yield from accounts.values()
