"""
`bridge config`: shows the settings in effect and where each came from.

It formats what `bridge.settings.inspect` found. Secrets are stars whatever
they are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import click

from bridge.cli.options import (
    config_option,
    given_settings,
    setting_options,
    show_warnings,
)
from bridge.errors import ConfigError
from bridge.settings import (
    EffectiveSetting,
    Secret,
    SourceKind,
    inspect,
)


__all__ = ["command"]

_GROUP_HELP = "Show the effective settings and their sources."


# Without a command it says so in a line; `--help` has the rest.
@click.group(help=_GROUP_HELP, no_args_is_help=False)
def command() -> None:
    """Hold the commands that look at settings."""


@command.command()
@setting_options()
@config_option
@click.pass_context
def show(ctx: click.Context) -> None:
    """
    Show every setting, its value and where the value came from.

    On a terminal it is a table, otherwise TOML that --config reads again.
    Secrets are shown as ***. Exits with 2 if the bridge could not run with it.
    """
    flags, config_file = given_settings(ctx)
    inspection = inspect(flags, os.environ, config_file)
    if sys.stdout.isatty():
        _show_table(inspection.effective)
    else:
        for line in _toml_lines(inspection.effective):
            click.echo(line)
    show_warnings(inspection.warnings)
    if inspection.problems:
        raise ConfigError("\n".join(inspection.problems))


def _show_table(effective: Iterable[EffectiveSetting]) -> None:
    # Imported when needed: only a terminal gets a table.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("Source", overflow="fold")
    for section, members in _by_section(effective):
        if section:
            table.add_section()
        for one in members:
            changed = one.source.kind is not SourceKind.DEFAULT
            style = "red" if one.problem else "bold" if changed else "dim"
            table.add_row(
                one.setting.path,
                Text(_for_people(one), style),
                Text(str(one.source), "" if changed else "dim"),
            )
    Console().print(table)


def _toml_lines(effective: Iterable[EffectiveSetting]) -> Iterator[str]:
    for section, members in _by_section(effective):
        if section:
            yield ""
            # accounts[1] and its like are tables of one list.
            name, listed, _ = section.partition("[")
            yield f"[[{name}]]" if listed else f"[{name}]"
        for one in members:
            yield from _toml_line(one)


def _toml_line(one: EffectiveSetting) -> Iterator[str]:
    name = one.setting.path.rpartition(".")[2]
    if isinstance(one.value, Secret):
        yield f'# {name} = "***"  # set, {one.source}'
        if one.value.file is not None:
            yield f"{name}_file = {_quoted(str(one.value.file))}  # {one.source}"
    elif one.problem is not None or one.value is None:
        yield f"# {name}: {_for_people(one)}  # {one.source}"
    else:
        value = one.value
        text = _quoted(str(value)) if isinstance(value, str | Path) else str(value)
        if isinstance(value, bool):
            text = text.lower()
        yield f"{name} = {text}  # {one.source}"


def _for_people(one: EffectiveSetting) -> str:
    value = one.value
    if one.problem is not None:
        missing = one.source.kind is SourceKind.DEFAULT
        return "missing" if missing else "wrong"
    if isinstance(value, Secret):
        return f"*** (from {value.file})" if value.file else "*** (set)"
    if value is None and one.source.kind is SourceKind.DEFAULT:
        return one.setting.default_text
    if one.setting.unit == "bytes":
        return _in_units(value)
    words = {None: "none", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_units(size: int) -> str:
    for factor, unit in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= factor and size % factor == 0:
            return f"{size} ({size // factor} {unit})"
    return str(size)


def _by_section(
    effective: Iterable[EffectiveSetting],
) -> Iterator[tuple[str, Iterator[EffectiveSetting]]]:
    return groupby(effective, key=lambda one: one.setting.path.rpartition(".")[0])


def _quoted(text: str) -> str:
    # JSON's escapes are a subset of those of TOML's basic strings.
    return json.dumps(text, ensure_ascii=False)
