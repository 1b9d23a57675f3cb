"""
What receiving costs: from the socket to a run of messages, and no further.

`python -m benchmarks.receiving` (or `make bench-receiving`) measures it alone, `make
bench` beside everything else. Owns the loads, the order of turns and the timing. Who
reads stands in `receivers`, how it is written in `receiving_report`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks import firehose
from benchmarks.contenders import program
from benchmarks.machine import describe, heading
from benchmarks.orders import Firehose, OrderError
from benchmarks.receivers import RECEIVERS, Take
from benchmarks.receiving_report import Reception, describe_receiving
from benchmarks.traffic import Traffic, message_of
from tests.kit.process import (
    PortTakenError,
    ProcessError,
    free_ports,
    start_all,
    stop_all,
)


__all__ = ["LOADS", "Load", "ReceivingError", "measure"]

_TURNS = 5

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0

# For one flood: the largest takes a second where others work too.
_FLOOD_SECONDS = 60.0


class ReceivingError(Exception):
    """A receiver didn't get what was sent."""


@dataclass(frozen=True)
class Load:
    """
    Events of one kind.

    Attributes:
        name: What a reader of the report sees.
        traffic: The events of one turn of one receiver: a third of a second, or less.
    """

    name: str
    traffic: Traffic


LOADS = (
    Load("no preview", Traffic(30_000)),
    Load("preview of 20 KB", Traffic(2_000, preview_bytes=20_000)),
    Load("preview of 90 KB", Traffic(600, preview_bytes=90_000)),
)


def measure(turns: int = _TURNS, loads: Sequence[Load] = LOADS) -> list[Reception]:
    """
    Let each receiver read each load, turn by turn.

    Args:
        turns: How often; one more that warms up isn't counted.
        loads: What is read.

    Raises:
        OrderError: The firehose failed.
        ProcessError: It didn't start.
        ReceivingError: What a receiver got isn't what was sent.
    """
    names = list(RECEIVERS)
    found: list[Reception] = []
    with _firehose() as source:
        for load in loads:
            us: dict[str, list[float]] = {name: [] for name in names}
            for turn in range(turns + 1):
                # Each goes first once in a while: the machine drifts.
                first = turn % len(names)
                for name in (*names[first:], *names[:first]):
                    taken_us = _receive(source, name, load.traffic)
                    if turn:
                        us[name].append(taken_us)
            size = len(message_of(load.traffic.payload(0)))
            found += [
                Reception(load.name, name, size, tuple(us[name])) for name in names
            ]
    return found


@contextmanager
def _firehose() -> Iterator[Firehose]:
    """Have a firehose in a process of its own, so that its CPU isn't a receiver's."""
    (port,) = free_ports(1)
    source = Firehose(port)
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
        child = program(
            "firehose",
            [firehose.__name__, str(port)],
            Path(folder),
            ready=lambda _: source.answers(),
        )
        start_all([child], deadline_seconds=_START_SECONDS)
        try:
            yield source
        finally:
            stop_all([child], grace_seconds=_STOP_SECONDS)


def _receive(source: Firehose, name: str, traffic: Traffic) -> float:
    """Have one receiver read one flood; give its CPU microseconds a message."""
    source.wait_subscribed(0)
    ready = threading.Event()

    def emit() -> None:
        # Answers to the subscription are read by then, and no event is.
        ready.wait(_FLOOD_SECONDS)
        source.emit(traffic, None, _FLOOD_SECONDS)

    with ThreadPoolExecutor(1) as pool:
        emission = pool.submit(emit)
        open_ = RECEIVERS[name]
        try:
            used_ns, characters = trio.run(
                _take, open_, source.pusher_url, traffic.events, ready.set
            )
        finally:
            ready.set()
        emission.result()
    sent = sum(len(message_of(payload)) for payload in traffic.payloads())
    if characters != sent:
        raise ReceivingError(f"{name} got {characters:,} characters of {sent:,}")
    return used_ns / 1e3 / traffic.events


async def _take(
    open_: Callable[[str], AbstractAsyncContextManager[Take]],
    url: str,
    events: int,
    ready: Callable[[], None],
) -> tuple[int, int]:
    with trio.fail_after(_FLOOD_SECONDS):
        async with open_(url) as take:
            ready()
            # CPU time of this thread: others may run meanwhile.
            started_ns = time.thread_time_ns()
            characters = await take(events)
            return time.thread_time_ns() - started_ns, characters


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0, whatever the speed; 1 if a receiver failed, 130 when it was interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receiving",
        description="Measure what a message costs between the socket and a run.",
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=_TURNS,
        help="how often each receiver reads each load (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.turns < 1:
        parser.error("there is at least one turn")
    # As Ctrl-C: the server has to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = describe(own_kafka=None)
    try:
        found = measure(options.turns)
    except (OrderError, PortTakenError, ProcessError, ReceivingError) as error:
        sys.stderr.write(f"make bench-receiving: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    lines = [heading("What receiving costs", machine), "", *describe_receiving(found)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
