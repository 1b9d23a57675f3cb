"""
The command line of `make bench-sessions`: what one more account costs a bridge.

Owns options, the order of runs and the table. What happens in a run stands in
`many_sessions`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.course import RunError
from benchmarks.figures import Spread, spread
from benchmarks.machine import Machine, describe
from benchmarks.many_sessions import Ground, Result, Stream
from benchmarks.tables import table, write
from benchmarks.telling import say
from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.npm import SOKETI_VERSION
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.reader import ReadTimeoutError
from tests.kit.soketi import SoketiServer


__all__ = ["report"]

_EXPECTED = (
    BrokerError,
    FetchError,
    PortTakenError,
    ProcessError,
    ReadTimeoutError,
    RunError,
)

_MIB, _KIB = 2**20, 2**10


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0 if every event of every account arrived once, in order and under its own
        account; 1 if not, or if a run failed; 130 when it was interrupted.
    """
    options = _options(arguments)
    # As Ctrl-C: the servers have to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = describe(own_kafka=True)
    results: list[Result] = []
    try:
        with _ground() as ground:
            for turn in range(options.turns):
                # The lonely account first, then last: the machine drifts.
                for accounts in sorted({1, options.accounts}, reverse=turn % 2 == 1):
                    events = options.events if accounts > 1 else 0
                    result = ground.run(accounts, options.seconds, events)
                    results.append(result)
                    say(_line(result))
    except _EXPECTED as error:
        say(f"make bench-sessions: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench-sessions: stopped before the report")
        return 130
    sys.stdout.write(f"\n{report(machine, results)}\n")
    return 1 if any(result.stream.flaws for result in results if result.stream) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sessions",
        description="Measure what one more idle account costs a bridge.",
    )
    for name, default, meaning in (
        ("--accounts", 200, "accounts of the large bridge"),
        ("--seconds", 60, "how long each bridge is watched at rest"),
        ("--turns", 3, "runs of each bridge"),
        ("--events", 20_000, "events for all accounts after each rest, 0 for none"),
    ):
        parser.add_argument(
            name, type=int, default=default, help=f"{meaning} (default: %(default)s)"
        )
    options = parser.parse_args(arguments)
    if min(options.accounts, options.seconds, options.turns) < 1:
        parser.error("accounts, seconds and turns are at least 1")
    return options


@contextmanager
def _ground() -> Iterator[Ground]:
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
        SoketiServer() as soketi,
    ):
        yield Ground(kafka, soketi, Path(folder))


def report(machine: Machine, results: Sequence[Result]) -> str:
    """
    Write the medians, with the lowest and the highest run.

    Args:
        machine: Where they were made.
        results: With two numbers of accounts, so many of each; or with one number.
    """
    by_size = {
        accounts: [one for one in results if one.rest.accounts == accounts]
        for accounts in sorted({result.rest.accounts for result in results})
    }
    rows = [
        [
            f"{accounts:,}",
            *(write(_of(runs, take), digits) for take, digits in _COLUMNS),
        ]
        for accounts, runs in by_size.items()
    ]
    versions = ", ".join(f"{name} {text}" for name, text in machine.versions.items())
    lines = [
        "# What one more account costs",
        "",
        f"- {machine.cores} cores, {machine.system}",
        f"- {machine.python}, {versions}, soketi {SOKETI_VERSION}",
        f"- revision {machine.revision}",
        _amount(results, len(by_size)),
        "",
        *table(_HEAD, rows),
    ]
    if len(by_size) > 1:
        lines += ["", _of_one(by_size)]
    streams = [result.stream for result in results if result.stream is not None]
    return "\n".join([*lines, *_of_events(streams)])


_HEAD = [
    "accounts",
    "memory (MiB)",
    "CPU at rest (ms/s)",
    "to the first connect (s)",
    "until all are subscribed (s)",
    "connects in one second",
    "back after a restart (s)",
    "connects in one second",
    "cores used by others",
]

_COLUMNS: list[tuple[Callable[[Result], float], int]] = [
    (lambda run: run.rest.memory_bytes / _MIB, 1),
    (lambda run: run.rest.cpu_seconds / run.rest.seconds * 1e3, 2),
    (lambda run: run.rest.start_seconds, 2),
    (lambda run: run.rest.subscribed_seconds, 2),
    (lambda run: run.rest.connects_a_second, 0),
    (lambda run: run.back.subscribed_seconds, 2),
    (lambda run: run.back.connects_a_second, 0),
    (lambda run: run.rest.others_cores, 2),
]


def _amount(results: Sequence[Result], sizes: int) -> str:
    runs, seconds = len(results) // sizes, results[0].rest.seconds
    return f"- {runs} interleaved runs of {seconds:.0f} s: median (lowest, highest)"


def _of(runs: Sequence[Result], take: Callable[[Result], float]) -> Spread:
    return spread([take(run) for run in runs])


def _of_one(by_size: dict[int, list[Result]]) -> str:
    """Write what one more account costs: the difference, dealt to the accounts."""
    (few, small), (many, large) = by_size.items()
    more = many - few

    def each(take: Callable[[Result], float]) -> float:
        return (_of(large, take).median - _of(small, take).median) / more

    memory = each(lambda run: run.rest.memory_bytes) / _KIB
    cpu = each(lambda run: run.rest.cpu_seconds / run.rest.seconds) * 1e6
    return (
        f"Each idle account more: {memory:.0f} KiB of memory and {cpu:.0f} us of CPU"
        " a second."
    )


def _of_events(streams: Sequence[Stream]) -> list[str]:
    if not streams:
        return []
    whole = sum(not stream.flaws for stream in streams)
    rate = write(spread([stream.events_per_second for stream in streams]), 0)
    flaws = [f"- {flaw}" for stream in streams for flaw in stream.flaws[:5]]
    sentence = (
        f"{streams[0].events:,} events of all accounts at once: each arrived once, in"
        f" order and under its account in {whole} of {len(streams)} runs, {rate}"
        " events/s with soketi's publishing."
    )
    return ["", sentence, *flaws]


def _line(result: Result) -> str:
    rest, stream, back = result.rest, result.stream, result.back
    parts = [
        f"{rest.accounts:>5} accounts  {rest.memory_bytes / _MIB:.1f} MiB",
        f"{rest.cpu_seconds / rest.seconds * 1e3:.2f} ms/s",
        f"subscribed in {rest.subscribed_seconds:.2f} s",
        f"{rest.connects_a_second} connects in a second",
        f"back in {back.subscribed_seconds:.2f} s, {back.connects_a_second} connects",
    ]
    if stream is not None:
        parts.append(f"{stream.events:,} events at {stream.events_per_second:,.0f}/s")
        parts += stream.flaws[:3]
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
