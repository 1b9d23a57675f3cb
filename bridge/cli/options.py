"""
The options that commands share, made from the list of settings.

Options only collect texts: what they mean and whether they are right is for
`bridge.settings` to say. Options of one command stand in its module.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.settings import (
    Loaded,
    SettingDescription,
    describe,
    load_for_board,
    load_for_reading,
    load_for_replaying,
)


__all__ = [
    "board_options",
    "config_option",
    "given_settings",
    "reading_options",
    "replaying_options",
    "setting_options",
    "show_warnings",
    "span_seconds",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Keys of click's per-run dictionary, which a group shares with its commands:
# so `bridge --config FILE config show` and `bridge config show --config FILE`
# are the same.
_FLAGS = "bridge.flags"
_CONFIG_FILE = "bridge.config_file"

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_READING_FLAGS = frozenset({"topic", "kafka.bootstrap_servers"})

# The board's settings are no business of the service.
_BOARD = "board."
_BOARD_FLAGS = _READING_FLAGS | {"board.listen"}


def setting_options(
    paths: frozenset[str] | None = None,
) -> Callable[[_Function], _Function]:
    """
    Give a command the flags of settings.

    Args:
        paths: The settings; None for all of the service that have a flag.
    """
    chosen = [
        setting
        for setting in describe()
        if setting.flag is not None
        and (
            setting.path in paths
            if paths is not None
            else not setting.path.startswith(_BOARD)
        )
    ]

    def decorate(function: _Function) -> _Function:
        for setting in reversed(chosen):
            function = _setting_option(setting)(function)
        return function

    return decorate


def _setting_option(
    setting: SettingDescription,
) -> Callable[[_Function], _Function]:
    assert setting.flag is not None

    def collect(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta.setdefault(_FLAGS, {})[setting.path] = value

    default = "required" if setting.required else f"default: {setting.default_text}"
    return click.option(
        setting.flag,
        setting.path.replace(".", "_"),
        metavar=_METAVARS.get(setting.path, "TEXT"),
        callback=collect,
        expose_value=False,
        help=f"{setting.description}. [{setting.environment}; {default}]",
    )


_METAVARS = {
    "api_url": "URL",
    "board.listen": "HOST:PORT",
    "client_id": "ID",
    "kafka.bootstrap_servers": "HOST:PORT,...",
    "outbox.dir": "DIR",
    "pusher.url": "URL",
    "topic": "NAME",
}


def config_option(function: _Function) -> _Function:
    """Give a command `--config`."""

    def collect(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta[_CONFIG_FILE] = Path(value)

    return click.option(
        "--config",
        metavar="FILE",
        callback=collect,
        expose_value=False,
        help="TOML file with settings; flags and environment go before it.",
    )(function)


def given_settings(ctx: click.Context) -> tuple[dict[str, str], Path | None]:
    """
    Give what was said on the command line, by the group or by the command.

    Returns:
        Texts by path, as `bridge.settings.load` takes them, and the TOML file.
    """
    return dict(ctx.meta.get(_FLAGS, {})), ctx.meta.get(_CONFIG_FILE)


def reading_options(function: _Function) -> _Function:
    """
    Give a consumer's command `--topic`, `--bootstrap-servers` and `--config`.

    The command gets the keyword argument `settings`, a `Settings` whose
    topics, Kafka and logs are set; client id and token may be None.

    Raises:
        ConfigError: When the command is invoked with a wrong setting.
    """
    return _with_settings(function, load_for_reading, _READING_FLAGS)


def board_options(function: _Function) -> _Function:
    """Give the board's command the same with its own settings, and `--listen`."""
    return _with_settings(function, load_for_board, _BOARD_FLAGS)


def replaying_options(function: _Function) -> _Function:
    """Give a command the same with all settings that a replay needs."""
    return _with_settings(function, load_for_replaying, _READING_FLAGS)


def _with_settings(
    function: _Function, load: Callable[..., Loaded], flags_of: frozenset[str]
) -> _Function:
    @functools.wraps(function)
    def invoke(*args: Any, **options: Any) -> Any:
        flags, config_file = given_settings(click.get_current_context())
        loaded = load(flags, os.environ, config_file)
        show_warnings(loaded.warnings)
        return function(*args, settings=loaded.settings, **options)

    decorate = setting_options(flags_of)
    return decorate(config_option(invoke))  # type: ignore[return-value]


def show_warnings(warnings: tuple[str, ...]) -> None:
    """Write warnings to stderr, for commands that have no log."""
    for line in warnings:
        click.echo(f"bridge: warning: {line}", err=True)


def span_seconds(
    _ctx: click.Context, _option: click.Parameter, span: str | None
) -> int | None:
    """Read a length of time such as 90s, 10m, 2h or 1d: an option's callback."""
    if span is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", span)
    if match is None:
        raise click.BadParameter(f"{span!r} is no span such as 90s, 10m, 2h or 1d.")
    return int(match[1]) * _UNIT_SECONDS[match[2]]
