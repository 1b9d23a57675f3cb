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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.settings import Scope, Setting, all_settings, load


__all__ = [
    "dead_letter_topic_option",
    "given_settings",
    "output_option",
    "setting_options",
    "show_warnings",
    "since_option",
    "with_settings",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What was given, in click's dictionary of the run, which a group shares with its
# commands: so `bridge --config FILE tail` and `bridge tail --config FILE` are the same.
_GIVEN = "bridge.given"
_CONFIG = "--config"


def setting_options(scope: Scope) -> Callable[[_Function], _Function]:
    """Give a command the flags of a scope's settings, and `--config`."""

    def decorate(function: _Function) -> _Function:
        options = [*map(_setting_option, _flags_of(scope)), _config_option]
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _flags_of(scope: Scope) -> Iterator[Setting]:
    for setting in all_settings():
        # The board's address is a setting of its own process, and a replay's outbox
        # isn't the bridge's.
        is_others = (setting.section == "board" and scope is not Scope.BOARD) or (
            setting.section == "outbox" and scope is Scope.REPLAY
        )
        if setting.flags and scope.has(setting) and not is_others:
            yield setting


def _setting_option(setting: Setting) -> Callable[[_Function], _Function]:
    default = "required" if setting.required else setting.default_text
    return click.option(
        *setting.flags,
        setting.path.replace(".", "_"),
        metavar=_METAVARS.get(setting.path, "TEXT"),
        callback=_collecting(setting.path),
        expose_value=False,
        help=f"{setting.description} [{default}]",
    )


def _collecting(path: str) -> Callable[..., None]:
    """Keep an option's value where the group shares it with its commands."""

    def collect(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.meta.setdefault(_GIVEN, {})[path] = value

    return collect


_METAVARS = {
    "api_url": "URL",
    "board.listen": "HOST:PORT",
    "client_id": "ID",
    "kafka.bootstrap_servers": "HOST:PORT,...",
    "outbox.dir": "DIR",
    "pusher.url": "URL",
    "topic": "NAME",
}

_config_option = click.option(
    "--config",
    metavar="FILE",
    callback=_collecting(_CONFIG),
    expose_value=False,
    help="TOML file with settings; flags and environment override it.",
)


def given_settings(ctx: click.Context) -> tuple[dict[str, str], Path | None]:
    """
    Return what the command line has, of the group or the command.

    Returns:
        Texts by path, as `bridge.settings.load` takes them, and the TOML file.
    """
    given = dict(ctx.meta.get(_GIVEN, {}))
    file = given.pop(_CONFIG, None)
    return given, None if file is None else Path(file)


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

        return setting_options(scope)(invoke)  # type: ignore[return-value]

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


def since_option(text: str, default: str = "") -> Callable[[_Function], _Function]:
    """Give a command `--since`, a moment in milliseconds since the epoch."""
    return click.option(
        "--since",
        type=_Since(),
        metavar="SPAN|TIME",
        help=f"{text}: 90s, 1h30m, 2d, or an ISO time. {default}",
    )


dead_letter_topic_option = click.option(
    "--dead-letter-topic",
    metavar="NAME",
    help="The topic of dead letters. [default: TOPIC.dlq]",
)
