"""The command line of `make run`: options, signals, exit codes, one line for errors."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import trio
from confluent_kafka import KafkaException

from bridge.errors import BridgeError
from examples.local.processes import EndpointError
from examples.local.run import run
from examples.local.screen import Screen
from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.reader import ReadTimeoutError


__all__: list[str] = []

_EXPECTED = (
    BridgeError,
    BrokerError,
    EndpointError,
    FetchError,
    KafkaException,
    PortTakenError,
    ProcessError,
    ReadTimeoutError,
)
_DEFAULT_RATE = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run until a signal or the end of the time.

    Returns:
        0 after a signal or when the counts agree, 1 for every other error that is
        reported, 2 for wrong options.
    """
    options = _options(arguments)
    screen = Screen()
    try:
        with tempfile.TemporaryDirectory(prefix="bridge-run-") as folder:
            return trio.run(_until_signal, options, screen, Path(folder))
    except BaseExceptionGroup as group:
        expected, defects = group.split(_EXPECTED)
        if defects is not None or expected is None:
            raise
        error: BaseException = expected
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    except _EXPECTED as single:
        error = single
    sys.stdout.flush()
    sys.stderr.write(f"make run: {error}\n")
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.local",
        description="Run the main job on this machine: "
        "sandbox, Kafka, bridge, board, view.",
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=_positive,
        metavar="SECONDS",
        help="stop the emission after so long, compare the counts and end",
    )
    parser.add_argument(
        "--rate",
        type=_positive,
        default=_DEFAULT_RATE,
        metavar="EVENTS/S",
        help="events a second (default: %(default)g)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} isn't a number above 0")


async def _until_signal(
    options: argparse.Namespace, screen: Screen, folder: Path
) -> int:
    """Run; a signal ends the run in order, a second one changes nothing."""
    agrees: bool | None = None
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_cancel_at_signals, signals, scope)
            with scope:
                agrees = await run(options.seconds, options.rate, screen, folder)
            nursery.cancel_scope.cancel()
    if agrees is None and options.seconds is not None:
        screen.say("Stopped before the summary.")
        return 1
    return 1 if agrees is False else 0


async def _cancel_at_signals(
    signals: AsyncIterator[int], scope: trio.CancelScope
) -> None:
    # It goes on listening while the run ends.
    async for _ in signals:
        scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
