"""`bridge config`: shows the effective settings and where each came from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from bridge.cli.options import given_settings, setting_options, show_warnings
from bridge.errors import ConfigError
from bridge.settings import EffectiveSetting, Scope, Secret, SourceKind, inspect


__all__ = ["command"]

_HELP = """\
Show every setting, its value and where the value came from.

On a terminal it is a table, otherwise TOML that --config reads again. Secrets are shown
as ***. Exits with code 2 if the bridge could not run with them.
"""


@click.group("config", help=_HELP, invoke_without_command=True)
@setting_options(Scope.SERVICE)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the settings, with or without the word `show`."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@command.command(help=_HELP)
@setting_options(Scope.SERVICE)
@click.pass_context
def show(ctx: click.Context) -> None:
    """Show the settings."""
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
                Text(_in_words(one), style),
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
    name = one.setting.name
    if isinstance(one.value, Secret):
        yield f'# {name} = "***"  # set, {one.source}'
        if one.value.file is not None:
            yield f"{name}_file = {_toml(str(one.value.file))}  # {one.source}"
    elif one.problem is not None or one.value is None:
        yield f"# {name}: {_in_words(one)}  # {one.source}"
    else:
        yield f"{name} = {_toml(one.value)}  # {one.source}"


def _toml(value: Any) -> str:
    # JSON's escapes are a subset of those of TOML's basic strings.
    text = str(value) if isinstance(value, Path) else value
    return json.dumps(text, ensure_ascii=False)


def _in_words(one: EffectiveSetting) -> str:
    value = one.value
    if one.problem is not None:
        return "missing" if one.source.kind is SourceKind.DEFAULT else "wrong"
    if isinstance(value, Secret):
        return f"*** (from {value.file})" if value.file else "*** (set)"
    if value is None and one.source.kind is SourceKind.DEFAULT:
        return one.setting.default_text
    return one.setting.in_words(value) + one.setting.size_in_words(value)


def _by_section(
    effective: Iterable[EffectiveSetting],
) -> Iterator[tuple[str, Iterator[EffectiveSetting]]]:
    return groupby(effective, key=lambda one: one.setting.section)
