"""
What commands have in common that read a topic to its end and show what was there.

Owns standard output as the data, progress on standard error, and the end by a signal.
What is read and how it looks is each command's own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import click
import trio
from rich.console import Console

from bridge.cli.signals import treat_sigterm_as_sigint
from bridge.consumer.verify import Watch
from bridge.errors import ExitCode
from bridge.operations import logs
from bridge.settings import Settings


__all__ = ["be_quiet", "console", "tell", "watched"]

_T = TypeVar("_T")

# The table's last column is wide; a narrower one is torn apart in a CI's log.
_PIPE_COLUMNS = 160


def watched(ctx: click.Context, topic: str, work: Callable[..., Awaitable[_T]]) -> _T:
    """
    Run what reads a topic, and show how far it has come.

    Args:
        ctx: Ended with 1 if a signal interrupts it.
        topic: What is read.
        work: Takes `on_progress`.
    """
    watch = Watch(topic, Console(stderr=True), tell)
    try:
        with watch:
            return trio.run(partial(work, on_progress=watch.update))
    except KeyboardInterrupt:
        done = watch.last
        tell(f"interrupted after {done.done:,} of {done.total:,} offsets.")
        ctx.exit(ExitCode.FAILED)


def console() -> Console:
    """Give standard output, as wide as a table needs where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def be_quiet(settings: Settings) -> None:
    """Let standard output be the data, and a signal the end."""
    logs.configure(settings.log.format, settings.log.level, sys.stderr)
    # The reader reports what matters of what aiokafka complains about.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    treat_sigterm_as_sigint()


def tell(line: str) -> None:
    """Write a line to standard error."""
    click.echo(f"bridge: {line}", err=True)
