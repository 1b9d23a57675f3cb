"""
`make bench-faults`: the bridge and its peers while soketi or Kafka is away.

A server is stopped, killed or frozen and comes back, while events are published to a
real soketi all along. Then all records are read back. What became of each event is for
`verdict`.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import trio

from benchmarks.contenders import CHOICE, Contender, able
from benchmarks.load import Traffic
from benchmarks.program import RunError, conclude, count, named, run_trio, say
from benchmarks.report import BRIDGES, Failure, heading, save, table
from benchmarks.run import running, staged, wait_subscribed
from benchmarks.soketi import Attempt, SoketiSource, soketi_running
from benchmarks.verdict import Evidence, FaultVerdict, judge
from tests.chaos.witness import Follower
from tests.kit.gap_judge import read_gaps
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, ProcessError
from tests.kit.reader import read_topic
from tests.kit.soketi import SoketiServer


# soketi takes ten times as much on two cores.
_RATE = 500

# Before the outage; the first second fills caches.
_BEFORE_SECONDS = 3.0

# After it, and after the contender is subscribed again, if it ever is: pysher waits
# 10 s before it connects again, pusher-js longer.
_AFTER_SECONDS = 3.0
_SUBSCRIBED_SECONDS = 25.0

# No run publishes for so long.
_MOST_SECONDS = 120.0

_KAFKA_STILL_SECONDS = 10.0

# With its start, which takes some three seconds, Kafka is away for ten; soketi, whose
# start takes one to three, for two.
_KAFKA_AWAY_SECONDS = 7.0
_SOKETI_AWAY_SECONDS = 1.0

_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.05

# How Python and Node write an uncaught error, on a line of its own.
_ERROR = re.compile(r"^(?:\w+\.)*[A-Z]\w+: .+$", re.MULTILINE)


class _Ground(NamedTuple):
    """What all runs use; the servers are ours."""

    kafka: KafkaServer
    soketi: SoketiServer
    source: SoketiSource
    folder: Path  # for files; the caller removes it


class _Outage(NamedTuple):
    """An outage."""

    name: str
    meaning: str  # for the report
    # Lets it happen, and returns when everything answers again.
    happen: Callable[[_Ground], None]
    # After so long without a record at the end no more will come.
    silence_seconds: float


def _restart_soketi(ground: _Ground) -> None:
    ground.soketi.stop()
    ground.soketi.start()


def _kill_soketi(ground: _Ground) -> None:
    ground.soketi.kill()
    time.sleep(_SOKETI_AWAY_SECONDS)
    ground.soketi.start()


def _freeze_kafka(ground: _Ground) -> None:
    ground.kafka.pause()
    try:
        time.sleep(_KAFKA_STILL_SECONDS)
    finally:
        ground.kafka.resume()


def _kill_kafka(ground: _Ground) -> None:
    ground.kafka.kill()
    time.sleep(_KAFKA_AWAY_SECONDS)
    ground.kafka.start()


# KafkaJS waits up to 10 s before its last tries.
_OUTAGES = {
    name: _Outage(name, meaning, happen, silence_seconds)
    for name, meaning, happen, silence_seconds in (
        ("soketi-restarted", "soketi restarted with SIGTERM", _restart_soketi, 3.0),
        ("soketi-killed", "soketi killed, back after 2 s", _kill_soketi, 3.0),
        ("kafka-frozen", "Kafka frozen for 10 s", _freeze_kafka, 12.0),
        ("kafka-killed", "Kafka killed, back after 10 s", _kill_kafka, 12.0),
    )
}


@dataclass(frozen=True)
class FaultRun:
    """What one run gave."""

    contender: str  # its title
    outage: str
    outage_seconds: float  # until everything answered again
    verdict: FaultVerdict
    findings: list[str]  # what is wrong with the gaps that were reported
    end: str | None  # how its process ended by itself, if it did

    @property
    def flawless(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.flawless and not self.findings and self.end is None


def _through(
    contender: Contender, outage: _Outage, ground: _Ground, rate: float
) -> FaultRun:
    traffic = Traffic(int(rate * _MOST_SECONDS))
    with staged(ground.kafka, ground.source, traffic, ground.folder) as stage:
        follower = Follower(stage.kafka, [stage.topic])
        with running(contender.process(stage)) as child:
            wait_subscribed(ground.source)
            course = _Course(ground, outage, child, follower)
            run_trio(course.run, traffic, rate)
            end = _end(child)
        records, of_gaps = (
            read_topic(stage.kafka, topic, None, timeout=_READ_SECONDS)
            for topic in (stage.topic, f"{stage.topic}.gaps")
        )
        # Only a bridge reports any.
        gaps, findings = read_gaps(of_gaps)
        evidence = Evidence(
            traffic=traffic,
            attempts=course.attempts,
            ended=course.ended,
            unsubscribed=course.unsubscribed,
            records=records,
            seen=follower.seen_of(stage.topic),
            gaps=gaps,
        )
    verdict, seconds = judge(evidence), course.ended - course.begun
    return FaultRun(contender.title, outage.name, seconds, verdict, findings, end)


class _Course:
    """Load, outage and consumer, side by side."""

    def __init__(
        self, ground: _Ground, outage: _Outage, child: ChildProcess, follower: Follower
    ) -> None:
        self._ground = ground
        self._outage = outage
        self._child = child
        self._follower = follower
        self._going = True
        self._is_unsubscribed = False
        self.attempts: list[Attempt] = []
        self.unsubscribed: list[float] = []
        self.begun = self.ended = 0.0

    async def run(self, traffic: Traffic, rate: float) -> None:
        """Publish, let it happen, publish on, and wait until nothing more comes."""
        async with trio.open_nursery() as reading:
            reading.start_soon(self._follower.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish, traffic, rate)
                nursery.start_soon(self._look)
                try:
                    await self._suffer()
                finally:
                    self._going = False
            await self._settle()
            reading.cancel_scope.cancel()

    async def _publish(self, traffic: Traffic, rate: float) -> None:
        publish = self._ground.source.publish
        self.attempts = await trio.to_thread.run_sync(
            publish, traffic, rate, lambda: self._going
        )

    async def _suffer(self) -> None:
        await trio.sleep(_BEFORE_SECONDS)
        self.begun = time.time()
        await trio.to_thread.run_sync(self._outage.happen, self._ground)
        self.ended = time.time()
        with trio.move_on_after(_SUBSCRIBED_SECONDS):
            # `_look` sees it.
            while self._is_unsubscribed and self._child.running:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
        await trio.sleep(_AFTER_SECONDS)

    async def _look(self) -> None:
        """Note when no client is subscribed."""
        while self._going:
            moment = time.time()
            self._is_unsubscribed = await trio.to_thread.run_sync(self._has_no_client)
            if self._is_unsubscribed:
                self.unsubscribed += [moment, time.time()]
            await trio.sleep(_LOOK_SECONDS)

    def _has_no_client(self) -> bool:
        try:
            return self._ground.source.subscribed() == 0
        except RunError:
            return True  # soketi is away

    async def _settle(self) -> None:
        """Wait until all that was accepted is there, or nothing more comes."""
        accepted = sum(attempt.taken is True for attempt in self.attempts)
        seen = self._follower.seen
        count, since = -1, trio.current_time()
        while len(seen) < accepted and self._child.running:
            if len(seen) > count:
                count, since = len(seen), trio.current_time()
            if trio.current_time() > since + self._outage.silence_seconds:
                return
            await trio.sleep(_LOOK_SECONDS)


def _end(child: ChildProcess) -> str | None:
    """Say how a process ended that should have run on."""
    if child.running:
        return None
    errors = _ERROR.findall(child.output()) or ["without an error message"]
    return f"ended by itself with exit code {child.exit_code}: {errors[-1]}"


# -- The report and the command line ------------------------------------------

_HEAD = [
    "contender",
    "outage (s)",
    "events that soketi took",
    "on the topic",
    "not received while away",
    "lost otherwise",
    "of these, reported in a gap",
    "duplicated",
    "out of order",
    "all is on the topic again after (s)",
]

# Flaws that no column has; they are rare.
_MORE = ("altered", "foreign", "holes")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Let servers fail, print and save.

    Returns:
        0 if no bridge lost an event without reporting it, duplicated one or put one out
        of order; 1 if one did, or if a bridge's run failed; 2 for wrong options; 130 if
        it was stopped.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Let soketi and Kafka fail around the bridge and its peers.",
    )
    parser.add_argument("--contenders", **CHOICE)
    parser.add_argument(
        "--only",
        type=named(_OUTAGES),
        default=list(_OUTAGES.values()),
        metavar="NAME,...",
        help=f"what fails: some of {', '.join(_OUTAGES)}",
    )
    parser.add_argument(
        "--rate",
        type=count,
        default=_RATE,
        help="events a second (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    return conclude("make bench-faults", lambda: _bench(**vars(options)))


def _bench(contenders: list[Contender], only: list[_Outage], rate: int) -> int:
    able_ones, left_out = able(contenders, signing=True)
    for line in left_out:
        say(line)
    head = [heading("Through outages"), f"- {rate} events/s, published all along"]
    runs: list[FaultRun] = []
    failures: list[Failure] = []
    sections = []
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        KafkaServer() as kafka,
        soketi_running() as (soketi, source),
    ):
        ground = _Ground(kafka, soketi, source, Path(folder))
        for outage in only:
            rows, remarks = [], []
            for contender in able_ones:
                try:
                    run = _through(contender, outage, ground, rate)
                except (ProcessError, RunError) as error:
                    reason = str(error).splitlines()[0]
                    line = f"- {contender.title}: failed: {reason}"
                    failures.append(Failure(contender.title, line))
                    remarks.append(line)
                else:
                    runs.append(run)
                    rows.append(_row(run))
                    remarks += _remarks(run)
                    say(f"{outage.name}: {', '.join(rows[-1])}")
            sections += ["", f"## {outage.meaning}", "", *table(_HEAD, rows)]
            sections += ["", *remarks] if remarks else []
    text = "\n".join([*head, *left_out, *sections, ""])
    sys.stdout.write(f"\n{text}")
    data = {"runs": [asdict(run) for run in runs], "failures": failures}
    save(text, data, "-faults")
    wrong = {run.contender for run in runs if not run.flawless}
    wrong |= {failure.contender for failure in failures}
    return 1 if wrong & BRIDGES else 0


def _row(run: FaultRun) -> list[str]:
    verdict = run.verdict
    counts = (
        verdict.accepted,
        verdict.accepted - verdict.away - verdict.lost,
        verdict.away,
        verdict.lost,
        verdict.reported,
        verdict.topic.duplicated,
        verdict.topic.disordered,
    )
    recovery = verdict.recovery_seconds
    return [
        run.contender,
        f"{run.outage_seconds:.1f}",
        *(f"{number:,}" for number in counts),
        "never" if recovery is None else f"{recovery:.1f}",
    ]


def _remarks(run: FaultRun) -> list[str]:
    flaws = asdict(run.verdict.topic)
    lines = [f"{name} {flaws[name]:,}" for name in _MORE if flaws[name]]
    lines += [*run.findings, *([run.end] if run.end else [])]
    return [f"- {run.contender}: {line}" for line in lines]


if __name__ == "__main__":
    sys.exit(main())
