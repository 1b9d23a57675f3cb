"""
What the benchmarks' command lines have in common.

The values of options, progress on standard error (standard output is the report's), and
how a benchmark ends when a server fails or it is interrupted.
"""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar, TypeVarTuple

import psutil
import structlog
import trio

from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.reader import ReadTimeoutError


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class RunError(Exception):
    """A run didn't complete: a process ended, or a server gave no usable answer."""


# The message of each names the server, and the reason.
_FAILURES = (
    BrokerError,
    FetchError,
    PortTakenError,
    ProcessError,
    ReadTimeoutError,
    RunError,
    psutil.Error,
)


def say(line: str) -> None:
    """Write a line to standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def conclude(name: str, measure: Callable[[], int]) -> int:
    """
    Run a benchmark to its end, also when it is interrupted or terminated.

    Returns:
        The exit code of `measure`; 1 if a server failed; 130 if it was stopped.
    """
    # The fake dryAPI logs to standard output.
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet)
    # A shell starts background jobs with SIGINT ignored. Either signal must reach the
    # blocks that stop the servers; trio handles SIGINT only.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return measure()
    except _FAILURES as error:
        say(f"{name}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"{name}: stopped before the report")
        return 130


def run_trio(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run an async function, and raise what went wrong first without its groups."""
    try:
        return trio.run(function, *args)
    except BaseExceptionGroup as group:
        error: BaseException = group
        # Nurseries wrap even an interrupt.
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def count(text: str) -> int:
    """Read a whole number above 0; raises ArgumentTypeError for another text."""
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def counts(text: str) -> list[int]:
    """Read whole numbers with commas between them; raises as `count` does."""
    parts = text.split(",")
    if all(part.isdecimal() for part in parts):
        return [int(part) for part in parts]
    raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers")


def seconds(text: str) -> float:
    """Read a time such as 90s, 10m or 1h; raises as `count` does."""
    match = re.fullmatch(r"([0-9]+)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s or 10m")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def named(known: Mapping[str, T]) -> Callable[[str], list[T]]:
    """Make the reader of an option that chooses by names with commas between them."""

    def read(text: str) -> list[T]:
        names = list(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in known:
                choice = ", ".join(known)
                raise argparse.ArgumentTypeError(f"{name!r} is none of {choice}")
        return [known[name] for name in names]

    return read
