"""The command line of `make bench-board`: options, order of runs, files, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.board.figures import BoardRun, BoardRuns, PageRun
from benchmarks.board.page import obstacle
from benchmarks.board.report import for_documents, line, markdown
from benchmarks.board.runs import Course
from benchmarks.contenders import ROOT
from benchmarks.course import RunError
from benchmarks.machine import describe
from benchmarks.saving import keep, renewed
from benchmarks.telling import say
from bridge.settings import BoardSettings
from tests.kit.broker import BrokerError
from tests.kit.cache import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError


__all__ = ["main"]

_EXPECTED = (BrokerError, FetchError, PortTakenError, ProcessError, RunError)

_RESULTS = ROOT / "benchmarks" / "results"
_README = ROOT / "benchmarks" / "README.md"

_RATES = [0, 1_000, 5_000]
_BROWSERS = [1, 10, 100]
_SECONDS = 30
_LONG_TIMES = 4
_QUICK_SECONDS = 15
_PAGE_SECONDS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, or read what was measured, print and save.

    Returns:
        0 if there is a report; 1 if a run failed; 130 when it was interrupted.
    """
    options = _options(arguments)
    # As Ctrl-C: the servers have to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = (
            _measure(options.rates, options.browsers, options.seconds)
            if options.file is None
            else msgspec.json.decode(options.file.read_bytes(), type=BoardRuns)
        )
    except (*_EXPECTED, OSError, msgspec.DecodeError) as error:
        say(f"make bench-board: {error}")
        return 1
    except KeyboardInterrupt:
        say("make bench-board: stopped before the report")
        return 130
    report = markdown(found)
    sys.stdout.write(f"\n{report}")
    if options.file is None:
        stem = _RESULTS / f"board-{found.moment}"
        _RESULTS.mkdir(exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
        keep(stem.with_suffix(".json"), text)
        keep(stem.with_suffix(".md"), report)
    if options.docs:
        keep(_README, renewed(_README.read_text(), "board", for_documents(found)))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.board",
        description="Measure what a board costs, and how late it is.",
    )
    parser.add_argument(
        "--rates", type=_numbers, help="events a second (default: 0, 1,000 and 5,000)"
    )
    parser.add_argument("--browsers", type=_numbers, help="default: 1, 10 and 100")
    parser.add_argument(
        "--seconds",
        type=float,
        help="of each run; the last takes four times as long (default: 30)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="once: 5,000 events/s and 100 browsers"
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="also write the tables to benchmarks/README.md",
    )
    parser.add_argument(
        "--from",
        dest="file",
        type=Path,
        metavar="JSON",
        help="what was saved; nothing is measured",
    )
    options = parser.parse_args(arguments)
    quick = options.quick
    options.rates = options.rates or (_RATES[-1:] if quick else _RATES)
    options.browsers = options.browsers or (_BROWSERS[-1:] if quick else _BROWSERS)
    options.seconds = options.seconds or (_QUICK_SECONDS if quick else _SECONDS)
    return options


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _measure(
    rates: Sequence[int], browsers: Sequence[int], seconds: float
) -> BoardRuns:
    machine = describe(own_kafka=True)
    runs: list[BoardRun] = []
    shown: PageRun | None = None
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
    ):
        course = Course(kafka, Path(folder))
        points = [(rate, count) for rate in rates for count in browsers]
        for number, (rate, count) in enumerate(points, start=1):
            # Memory is what may grow: one run is long enough to show it.
            is_long = number == len(points) > 1
            length = _LONG_TIMES * seconds if is_long else seconds
            runs.append(course.run(rate, count, length))
            say(line(runs[-1]))
        fetched = course.fetch()
        missing = obstacle()
        if missing is None and rates[-1]:
            shown = course.show(rates[-1], min(seconds, _PAGE_SECONDS))
        elif missing is not None:
            say(f"the page is not measured: {missing}")
    return BoardRuns(
        moment=datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        machine=machine,
        updates_per_second=BoardSettings().updates_per_second,
        runs=runs,
        page=shown,
        fetched=fetched,
    )


if __name__ == "__main__":
    sys.exit(main())
