"""
The options that commands share, made from the list of settings.

Options only collect texts: `bridge.settings` says what they mean and whether they are
right. Options of one command are in its module.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.settings import Scope, Setting, all_settings, load


__all__ = [
    "SINCE",
    "config_option",
    "given_settings",
    "output_option",
    "setting_options",
    "show_warnings",
    "with_settings",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Keys of click's per-run dictionary, which a group shares with its commands: so
# `bridge --config FILE tail` and `bridge tail --config FILE` are the same.
_FLAGS = "bridge.flags"
_CONFIG_FILE = "bridge.config_file"


def setting_options(scope: Scope) -> Callable[[_Function], _Function]:
    """Give a command the flags of a scope's settings."""
    # The board's port is a setting of the board's own process.
    chosen = [
        setting
        for setting in all_settings()
        if setting.flags
        and scope.has(setting)
        and (scope is Scope.BOARD or setting.section != "board")
        and (scope is not Scope.REPLAY or setting.section != "outbox")
    ]

    def decorate(function: _Function) -> _Function:
        for setting in reversed(chosen):
            function = _setting_option(setting)(function)
        return function

    return decorate


def _setting_option(setting: Setting) -> Callable[[_Function], _Function]:
    def collect(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta.setdefault(_FLAGS, {})[setting.path] = value

    default = "required" if setting.required else setting.default_text
    return click.option(
        *setting.flags,
        setting.path.replace(".", "_"),
        metavar=_METAVARS.get(setting.path, "TEXT"),
        callback=collect,
        expose_value=False,
        help=f"{setting.description} [{default}]",
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
        help="TOML file with settings; flags and environment override it.",
    )(function)


def given_settings(ctx: click.Context) -> tuple[dict[str, str], Path | None]:
    """
    Return what the command line has, of the group or the command.

    Returns:
        Texts by path, as `bridge.settings.load` takes them, and the TOML file.
    """
    return dict(ctx.meta.get(_FLAGS, {})), ctx.meta.get(_CONFIG_FILE)


def with_settings(scope: Scope) -> Callable[[_Function], _Function]:
    """
    Give a command the flags of a scope, `--config` and the argument `settings`.

    Raises:
        ConfigError: When the command is invoked with a wrong setting.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def invoke(*args: Any, **options: Any) -> Any:
            flags, config_file = given_settings(click.get_current_context())
            loaded = load(flags, os.environ, config_file, scope)
            show_warnings(loaded.warnings)
            return function(*args, settings=loaded.settings, **options)

        return setting_options(scope)(config_option(invoke))  # type: ignore[return-value]

    return decorate


def output_option(function: _Function) -> _Function:
    """Give a command `--output table|json`, as the argument `to_json`."""
    return click.option(
        "--output",
        "to_json",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        callback=lambda _ctx, _option, word: word == "json",
        help="What is written to standard output.",
    )(function)


def show_warnings(warnings: tuple[str, ...]) -> None:
    """Write warnings to stderr, for commands that have no log."""
    for line in warnings:
        click.echo(f"bridge: warning: {line}", err=True)


class _Since(click.ParamType[int]):
    """A moment: a span before now (90s, 1h30m, 2d) or ISO 8601; milliseconds."""

    name = "since"

    _SPAN = re.compile(
        r"(?=.)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?"
    )

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the moment in milliseconds since the epoch, 0 at least."""
        if isinstance(value, int):
            return value
        if match := self._SPAN.fullmatch(value):
            days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
            span = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
            return max(0, int((time.time() - span) * 1000))
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither a span such as 90s, 1h30m or 2d nor a time such "
                "as 2026-01-31T12:00:00Z.",
                param,
                ctx,
            )
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, int(moment.timestamp() * 1000))


SINCE = _Since()
