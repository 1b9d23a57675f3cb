"""
Standard output is the data; lines of the log, warnings and errors are on stderr.

Also how SIGTERM ends commands that a person ends with Ctrl-C.
"""

from __future__ import annotations

import logging
import signal
import sys

import click
from rich.console import Console

from bridge.operations import logs
from bridge.settings import Settings


__all__ = ["be_quiet", "console", "end_at_sigterm", "note"]

# One line each in a CI's log; a narrower table is torn apart there.
_PIPE_COLUMNS = 160


def console() -> Console:
    """Return standard output, as wide as a table needs where it isn't a terminal."""
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    return Console(width=width, highlight=False)


def note(line: str) -> None:
    """Write a line to standard error."""
    click.echo(f"bridge: {line}", err=True)


def be_quiet(settings: Settings, level: str | None = None) -> None:
    """Log to standard error only, and end at a signal."""
    logs.configure(settings.log.format, level or settings.log.level, sys.stderr)
    # The readers report what matters of aiokafka's complaints.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    end_at_sigterm()


def end_at_sigterm() -> None:
    """
    End at SIGTERM as at Ctrl-C: the terminal is put back in order, the code is 0.

    trio turns SIGINT into an exception also while a write to a full pipe blocks,
    where a signal that wakes a task would wait for the pipe. Where SIGINT is
    ignored (a shell's background job), SIGTERM keeps its own meaning.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
