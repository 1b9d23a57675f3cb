"""The command line of `make bench`: options, order of runs, files, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import contract, receiving
from benchmarks.contenders import (
    BRIDGE,
    CONTENDERS,
    FLOOR,
    IN_MEMORY,
    ROOT,
    TRANSACTIONAL,
)
from benchmarks.course import Course, Run, RunError
from benchmarks.machine import describe
from benchmarks.orders import OrderError
from benchmarks.receiving import ReceivingError
from benchmarks.report import Report
from benchmarks.traffic import Traffic
from tests.servers.broker import BrokerError, KafkaBroker, existing_kafka
from tests.servers.downloads import FetchError
from tests.servers.kafka import KafkaServer
from tests.servers.process import PortTakenError, ProcessError


_EXPECTED = (
    BrokerError,
    FetchError,
    OrderError,
    PortTakenError,
    ProcessError,
    ReceivingError,
    RunError,
)

_RESULTS = ROOT / "benchmarks" / "results"

# Enough to fill caches and to let the broker's compiler do its work.
_WARM_UP_EVENTS = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, print and save.

    Returns:
        0 if all events of all runs arrived once and in order, whatever the speed;
        1 if not, or if a run failed; 2 for wrong options; 128 and the signal's
        number when it was stopped.
    """
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _exit)
    machine = describe(own_kafka=existing_kafka() is None)
    runs: list[Run] = []
    try:
        _say("what the contract costs")
        costs = contract.measure()  # before servers are about
        _say("what receiving costs")
        receptions = receiving.measure()
        with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder:
            for run in _measure(options, Path(folder)):
                runs.append(run)
                _say(_line(run))
    except _EXPECTED as error:
        _say(f"make bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("make bench: stopped before the report")
        return 130
    names = FLOOR.name, BRIDGE.name, IN_MEMORY.name
    report = Report(machine, *names, runs, costs, receptions)
    sys.stdout.write(f"\n{report.markdown()}\n")
    _save(report)
    return 0 if report.flawless else 1


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the bridge beside others that read the same events.",
    )
    parser.add_argument(
        "--events",
        type=_count,
        default=100_000,
        help="events of a flood (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=_count,
        default=3,
        help="runs of each contender (default: %(default)s)",
    )
    parser.add_argument(
        "--previews",
        type=_counts,
        default=[0],
        metavar="BYTES,...",
        help="lengths of previews, each with floods of its own (default: 0)",
    )
    parser.add_argument(
        "--rates",
        type=_counts,
        default=[100, 1_000, 10_000],
        metavar="EVENTS/S,...",
        help="rates at which latency is measured too, or 0 for none"
        " (default: 100,1000,10000)",
    )
    parser.add_argument(
        "--seconds",
        type=_count,
        default=5,
        help="how long a rate is kept up (default: %(default)s)",
    )
    parser.add_argument(
        "--delivery",
        choices=("idempotent", "transactional"),
        default="idempotent",
        help="transactional measures the bridge with that delivery beside the others",
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if all(part.isascii() and part.isdigit() for part in parts):
        return [int(part) for part in parts]
    raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers")


def _measure(options: argparse.Namespace, folder: Path) -> Iterator[Run]:
    contenders = CONTENDERS
    if options.delivery == "transactional":
        contenders = (*CONTENDERS, TRANSACTIONAL)
    with _kafka() as (kafka, pids):
        course = Course(kafka, pids, folder)
        with course.open():
            _say("warming up")
            course.run(BRIDGE, Traffic(min(options.events, _WARM_UP_EVENTS)), None)
            for turn in range(options.runs):
                for traffic, rate in _kinds(options):
                    # Each goes first in its turn: the machine drifts.
                    for place in range(len(contenders)):
                        contender = contenders[(turn + place) % len(contenders)]
                        yield course.run(contender, traffic, rate)


def _kinds(options: argparse.Namespace) -> Iterator[tuple[Traffic, float | None]]:
    for preview_bytes in options.previews:
        yield Traffic(options.events, preview_bytes=preview_bytes), None
    for rate in filter(None, options.rates):
        yield Traffic(rate * options.seconds), rate


@contextmanager
def _kafka() -> Iterator[tuple[KafkaBroker, tuple[int, ...]]]:
    existing = existing_kafka()
    if existing is not None:
        existing.check()
        yield existing, ()
    else:
        with KafkaServer() as server:
            yield server, server.pids


def _line(run: Run) -> str:
    rate = "flood" if run.rate is None else f"{run.rate:g}/s"
    parts = [
        f"{run.contender:<26}{rate:>8}",
        f"{run.events_per_second:>9,.0f} events/s",
        f"{run.cpu_us_per_event:>6.1f} us CPU each",
    ]
    if run.latency is not None:
        parts.append(f"p50 {run.latency.p50:.2f} ms, p99 {run.latency.p99:.2f} ms")
    if run.acknowledged is not None:
        p50, p99 = run.acknowledged.p50, run.acknowledged.p99
        parts.append(f"acknowledged after p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    if run.verdict is not None and not run.verdict.flawless:
        parts.append(str(run.verdict))
    return "  ".join(parts)


def _save(report: Report) -> None:
    _RESULTS.mkdir(exist_ok=True)
    stem = _RESULTS / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for suffix, text in ((".json", report.json()), (".md", report.markdown())):
        file = stem.with_suffix(suffix)
        file.write_text(text)
        _say(f"saved {file.relative_to(ROOT)}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
