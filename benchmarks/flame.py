"""
The command line of `make flame`: where the bridge's CPU goes, function by function.

Owns options, the order of runs and what is written where. The bridge runs as in
`make bench`, by turns alone and with samplers beside it: the former say what an event
costs, the latter what that goes into.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.contenders import BRIDGE, ROOT
from benchmarks.course import Course, Run, RunError
from benchmarks.flame_graph import draw
from benchmarks.flame_report import floors, for_documents, markdown, title
from benchmarks.floors import measure as measure_floors
from benchmarks.machine import describe
from benchmarks.orders import OrderError
from benchmarks.profiles import THREADS, Profile, counted
from benchmarks.sampling import Sampler
from benchmarks.saving import keep
from benchmarks.telling import say
from benchmarks.traffic import Traffic, frame_of
from tests.kit.broker import BrokerError
from tests.kit.downloads import FetchError
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError


__all__ = ["main", "renewed"]

_EXPECTED = (
    BrokerError,
    FetchError,
    OrderError,
    PortTakenError,
    ProcessError,
    RunError,
)

_RESULTS = ROOT / "benchmarks" / "results"
_DOCS = ROOT / "docs"
_README = ROOT / "benchmarks" / "README.md"

_WARM_UP_EVENTS = 20_000

# A flood of some seconds; of previews it has 150 MB, as in `make bench`.
_FLOOD_EVENTS = 200_000
_FLOOD_BYTES = 150_000_000
_RATE_SECONDS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, or read what was measured, print and save.

    Returns:
        0 if there is a profile; 1 if a run failed; 2 for wrong options; 130 when it
        was interrupted.
    """
    options = _options(arguments)
    # As Ctrl-C: the servers have to be ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        profile = (
            _measure(options.rate, options.previews, options.events, options.turns)
            if options.file is None
            else Profile.read(options.file.read_bytes())
        )
    except (*_EXPECTED, OSError, msgspec.DecodeError) as error:
        say(f"make flame: {error}")
        return 1
    except KeyboardInterrupt:
        say("make flame: stopped before the report")
        return 130
    report, graph = markdown(profile), draw(profile, title(profile))
    sys.stdout.write(f"\n{report}")
    stem = _stem(profile)
    _RESULTS.mkdir(exist_ok=True)
    if options.file is None:
        keep(_RESULTS / f"{stem}-{profile.moment}.json", profile.json())
    keep(_RESULTS / f"{stem}-{profile.moment}.md", report)
    keep(_RESULTS / f"{stem}-{profile.moment}.svg", graph)
    if options.docs:
        _renew_documents(profile, stem, graph)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flame",
        description="Sample the bridge while events flow, and draw a flame graph.",
    )
    parser.add_argument(
        "--rate", type=float, help="events a second (default: as many as it takes)"
    )
    for option, default, meaning in (
        ("--previews", 0, "length of each event's preview"),
        ("--events", None, "events of a run"),
        ("--turns", 3, "runs alone, and as many with samplers"),
    ):
        parser.add_argument(option, type=int, default=default, help=meaning)
    parser.add_argument(
        "--docs",
        action="store_true",
        help="also write the graph to docs/ and the tables to benchmarks/README.md",
    )
    parser.add_argument(
        "--from",
        dest="file",
        type=Path,
        metavar="JSON",
        help="a profile that was saved; nothing is measured",
    )
    options = parser.parse_args(arguments)
    if options.turns < 1:
        parser.error("there is at least one turn")
    return options


def _measure(
    rate: float | None, preview_bytes: int, events: int | None, turns: int
) -> Profile:
    machine = describe(own_kafka=True)
    say("what an event needs at the least")
    least = measure_floors()
    traffic = _traffic(rate, preview_bytes, events)
    alone: list[Run] = []
    watched: list[Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as name,
        KafkaServer() as kafka,
    ):
        folder = Path(name)
        sampler = Sampler(folder)
        course = Course(kafka, kafka.pids, folder)
        with course.open():
            say("warming up")
            course.run(BRIDGE, Traffic(_WARM_UP_EVENTS), None)
            for _ in range(turns):
                alone.append(course.run(BRIDGE, traffic, rate))
                say(_line("alone", alone[-1]))
                watched.append(course.run(BRIDGE, traffic, rate, sampler.watch))
                say(_line("sampled", watched[-1]))
    return Profile(
        machine=machine,
        moment=datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ"),
        rate=rate,
        events=traffic.events,
        event_bytes=len(frame_of(traffic.payload(0))),
        preview_bytes=preview_bytes,
        load_average=max(run.load_average for run in alone),
        cpu_us=_by_thread(alone),
        watched_us=_by_thread(watched),
        locked=counted(sampler.locked),
        processor=counted(sampler.processor),
        floors=least,
    )


def _traffic(rate: float | None, preview_bytes: int, events: int | None) -> Traffic:
    if events is None:
        events = _FLOOD_EVENTS if rate is None else int(rate * _RATE_SECONDS)
        if preview_bytes:
            events = min(events, _FLOOD_BYTES // preview_bytes)
    return Traffic(events, preview_bytes=preview_bytes)


def _by_thread(runs: Sequence[Run]) -> dict[str, float]:
    return {
        thread: statistics.median(
            run.usage.thread_seconds.get(thread, 0.0) * 1e6 / run.traffic.events
            for run in runs
        )
        for thread in THREADS
    }


def _line(how: str, run: Run) -> str:
    return (
        f"{how:<8}{run.events_per_second:>9,.0f} events/s"
        f"{run.cpu_us_per_event:>8.1f} us CPU each, load {run.load_average:.1f}"
    )


def _stem(profile: Profile) -> str:
    """Name a profile's files by what was measured."""
    rate = "" if profile.rate is None else f"-{profile.rate:g}"
    previews = f"-previews-{profile.preview_bytes}" if profile.preview_bytes else ""
    return f"flame{rate}{previews}"


def _renew_documents(profile: Profile, stem: str, graph: str) -> None:
    """Write what documents show; of other runs than those they show nothing."""
    document = _README.read_text()
    text = renewed(document, stem, for_documents(profile))
    if _begin(stem) not in document:
        say(f"{_README.relative_to(ROOT)} has no place for {stem}: docs are as before")
        return
    keep(_DOCS / f"{stem}.svg", graph)
    keep(_README, renewed(text, "floors", "\n\n".join(floors(profile))))


def _begin(stem: str) -> str:
    return f"<!-- {stem} -->\n"


def renewed(document: str, stem: str, text: str) -> str:
    """
    Put a profile's text into a document, between the two comments with its name.

    Args:
        document: What it stands in; left as it is where it has no such place.
        stem: The profile's name.
        text: What comes there.
    """
    place = re.compile(
        rf"({re.escape(_begin(stem))}).*?(\n<!-- /{re.escape(stem)} -->)", re.DOTALL
    )
    return place.sub(lambda match: f"{match[1]}{text}{match[2]}", document)


if __name__ == "__main__":
    sys.exit(main())
