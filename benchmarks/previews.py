"""
The bytes of a load of previews in Kafka, under each setting and codec.

`python -m benchmarks.previews` (or `make bench-previews`) sends the same events for
each `previews` and each `kafka.compression`, turn by turn. Owns the order of runs,
table and command line; a run stands in `preview_runs`, the events in `preview_load`.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, get_args

from benchmarks.course import RunError
from benchmarks.figures import spread
from benchmarks.machine import Machine, describe, heading
from benchmarks.preview_load import PreviewLoad
from benchmarks.preview_runs import Codec, Previews, Result, run
from benchmarks.tables import table, write
from benchmarks.telling import say
from bridge.operations import logs
from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError


__all__ = ["report"]

_EXPECTED = (BrokerError, FetchError, PortTakenError, ProcessError, RunError)

_Key = TypeVar("_Key")

# By the size of the sharpest preview: some 15 MB of frames each.
_JOBS = {20_000: 180, 90_000: 40}


def report(machine: Machine, results: Sequence[Result]) -> str:
    """
    Write the medians, with the lowest and the highest run.

    Args:
        machine: Where they were made.
        results: Of all runs.
    """
    lines = [
        heading("What previews take in Kafka", machine),
        _amount(results),
    ]
    for preview_bytes, members in _grouped(results, lambda one: one.preview_bytes):
        first = members[0]
        size = first.frame_bytes / first.events
        amount = f"{first.events:,} events of {size:,.0f} bytes on average"
        lines += [
            "",
            f"## Sharpest preview of about {preview_bytes / 1000:g} KB",
            "",
            f"{amount}, 8 of 10 with a preview.",
            "",
            *table(_HEAD, list(_rows(members))),
        ]
    flaws = [f"- {flaw}" for result in results for flaw in result.flaws]
    return "\n".join([*lines, *(["", "Not as it should be:", *flaws] if flaws else [])])


_HEAD = [
    "previews",
    "compression",
    "bytes an event on `jobs`",
    "on `jobs.previews`",
    "together",
    "of inline, none",
    "events/s",
    "CPU us an event",
    "broker's CPU us",
]


def _rows(results: Sequence[Result]) -> Iterator[list[str]]:
    kinds = dict(_grouped(results, lambda one: (one.previews, one.codec)))
    full = _median(kinds["inline", "none"], lambda one: one.disk_bytes)
    for (previews, codec), runs in kinds.items():
        events = runs[0].events
        disk = _median(runs, lambda one: one.disk_bytes)
        yield [
            previews,
            codec,
            f"{_median(runs, lambda one: one.job_bytes) / events:,.0f}",
            f"{_median(runs, lambda one: one.image_bytes) / events:,.0f}",
            f"{disk / events:,.0f}",
            f"{disk / full:.1%}",
            write(spread([one.events / one.seconds for one in runs]), 0),
            write(spread([one.cpu_seconds / one.events * 1e6 for one in runs]), 0),
            write(spread([one.broker_seconds / one.events * 1e6 for one in runs]), 0),
        ]


def _median(runs: Sequence[Result], take: Callable[[Result], float]) -> float:
    return spread([take(one) for one in runs]).median


def _grouped(
    results: Sequence[Result], key: Callable[[Result], _Key]
) -> list[tuple[_Key, list[Result]]]:
    """Sort by key, in the order in which keys came first."""
    groups: dict[_Key, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.items())


def _amount(results: Sequence[Result]) -> str:
    kinds = _grouped(results, lambda one: (one.preview_bytes, one.previews, one.codec))
    return f"- {len(results) // len(kinds)} interleaved runs: median (lowest, highest)"


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure and print.

    Returns:
        0 if every event and every preview was published as it should be; 1 if not, or
        if a run failed; 130 when it was interrupted.
    """
    options = _options(arguments)
    # As Ctrl-C: the server has to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs.configure("console", "warning", sys.stderr)
    machine = describe(own_kafka=True)
    try:
        say("painting")
        loads = [
            (load, load.messages())
            for load in (
                PreviewLoad(size, max(1, jobs * options.percent // 100))
                for size, jobs in _JOBS.items()
            )
        ]
        with KafkaServer() as kafka:
            results = list(_measure(kafka, loads, options.turns))
    except _EXPECTED as error:
        say(f"make bench-previews: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench-previews: stopped before the report")
        return 130
    sys.stdout.write(f"\n{report(machine, results)}\n")
    return 1 if any(result.flaws for result in results) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.previews",
        description="Measure the bytes of a load of previews in Kafka.",
    )
    for name, default, meaning in (
        ("--turns", 3, "runs of each combination"),
        ("--percent", 100, "of the load's jobs"),
    ):
        parser.add_argument(
            name, type=int, default=default, help=f"{meaning} (default: %(default)s)"
        )
    options = parser.parse_args(arguments)
    if min(options.turns, options.percent) < 1:
        parser.error("turns and percent are at least 1")
    return options


def _measure(
    kafka: KafkaServer, loads: Sequence[tuple[PreviewLoad, list[str]]], turns: int
) -> Iterator[Result]:
    kinds = [
        (load, messages, previews, codec)
        for load, messages in loads
        for previews, codec in itertools.product(get_args(Previews), get_args(Codec))
    ]
    # The broker's compiler does its work.
    run(kafka, *kinds[0])
    for turn in range(turns):
        # Another one goes first in each turn: the machine drifts.
        first = turn * len(kinds) // turns
        for kind in (*kinds[first:], *kinds[:first]):
            result = run(kafka, *kind)
            say(_line(result))
            yield result


def _line(result: Result) -> str:
    return "  ".join(
        [
            f"{result.preview_bytes:>7,} {result.previews:<7}{result.codec:<5}",
            f"{result.disk_bytes / result.events:>7,.0f} bytes an event",
            f"{result.events / result.seconds:>7,.0f} events/s",
            f"{result.cpu_seconds / result.events * 1e6:>5.0f} us CPU each",
            *result.flaws,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
