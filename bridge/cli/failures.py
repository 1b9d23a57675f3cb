"""
What a failure looks like from outside: lines on stderr and an exit code.

Errors that the bridge raises on purpose become one line each. Everything else
is a defect and keeps its traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType

import click

from bridge.errors import (
    BridgeError,
    ConfigError,
    ExitCode,
    KafkaError,
    OutboxError,
    RefusedError,
)
from bridge.settings import all_settings
from bridge.text import printable, redact


__all__ = ["report", "report_usage", "show_defect", "to_report"]

# Several tasks may fail together. What dryAPI refuses explains more than what
# Kafka then lacks, and both more than an outbox that can't be emptied.
_BY_RANK = (RefusedError, KafkaError, OutboxError, BridgeError)


def to_report(error: BaseException) -> BridgeError | KeyboardInterrupt | None:
    """
    Find the error to report.

    Args:
        error: An error, or a group of them out of trio's nurseries.

    Returns:
        The bridge's own error that explains most; KeyboardInterrupt if there is
        nothing else; None if any part is a defect.
    """
    own: list[BridgeError] = []
    interrupt: KeyboardInterrupt | None = None
    for leaf in _leaves(error):
        if isinstance(leaf, BridgeError):
            own.append(leaf)
        elif isinstance(leaf, KeyboardInterrupt):
            interrupt = leaf
        else:
            return None
    return min(own, key=_rank, default=interrupt)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _rank(error: BridgeError) -> tuple[int, bool]:
    place = next(i for i, kind in enumerate(_BY_RANK) if isinstance(error, kind))
    # Of the same kind, one with an exit code of its own says more.
    return place, error.exit_code is ExitCode.FAILED


def report(error: BridgeError) -> int:
    """Write an error to stderr and give the exit code."""
    text = str(error) or type(error).__name__
    # Settings list every problem on a line of its own; all others are one line.
    lines = text.splitlines() if isinstance(error, ConfigError) else [text]
    for line in lines:
        _echo(redact(line))
    return int(error.exit_code)


def show_defect(
    _: type[BaseException], error: BaseException, __: TracebackType | None
) -> None:
    """
    Write a defect's traceback to stderr as Python would, without any secret.

    It is Python's `sys.excepthook`: a library's message may repeat what it was given.
    """
    text = "".join(traceback.format_exception(error))
    click.echo(printable(redact(text), keep="\n\t"), err=True, nl=False)


def report_usage(error: click.ClickException) -> int:
    """Write what click or a command raised to stderr and give the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return int(error.exit_code)
    line = error.format_message()
    if isinstance(error, click.NoSuchOption):
        line = _instead_of_flag(error.option_name) or line
    if isinstance(error, click.UsageError):
        command = "bridge" if error.ctx is None else error.ctx.command_path
        line += f" `{command} --help` shows what there is."
    _echo(line)
    return int(error.exit_code)


def _echo(line: str) -> None:
    """Write one line to stderr, without what a terminal would obey."""
    click.echo(f"bridge: {printable(' '.join(line.split()))}", err=True)


def _instead_of_flag(option: str) -> str | None:
    """Say how to give a setting that has no flag; a secret never has one."""
    name = "BRIDGE_" + option.lstrip("-").replace("-", "_").upper()
    for setting in all_settings():
        if name in setting.variables:
            names = " or ".join(setting.variables)
            reason = "it has no flag"
            if setting.is_secret:
                reason = "a secret is never a flag"
            return f"No such option '{option}': {reason}, set {names} instead."
    return None
