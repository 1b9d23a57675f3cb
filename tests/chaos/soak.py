"""`make soak`: everything runs, everything fails, for as long as one likes.

Owns the course of a soak and of what `restarts` shares with it: the bridge behind a
cable, the load, the witness, and what is read at the end. The faults stand in
`soak_faults`, the judgement in `soak_verdict`, its words in `soak_report`.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio

from tests.chaos import vitals
from tests.chaos.cable import Cable
from tests.chaos.fault_log import Fault, FaultLog
from tests.chaos.gaps import ReportedGap, read_gaps
from tests.chaos.ground import Emission, Ground, GroundLoad
from tests.chaos.soak_faults import Faults
from tests.chaos.soak_verdict import SoakVerdict, judge_soak
from tests.chaos.stage import Options, Servers, Stage
from tests.chaos.vitals import Vitals
from tests.chaos.witness import Witness
from tests.e2e.auth_endpoint import AuthEndpoint
from tests.kit.kafka import KafkaServer
from tests.kit.process import ProcessError
from tests.kit.soketi import SoketiServer


__all__ = ["Course", "Outcome", "Place", "soak"]

# A lost connection is noticed within activity and pong timeout, 40 s; a wait of the
# session's slowest pace is 30 s.
_HEARS_AGAIN_SECONDS = 120.0

# Everything that is on its way arrives within this.
_CALM_SECONDS = 5.0

_DRAIN_SECONDS = 120.0

_PROGRESS_SECONDS = 60.0

# Its deadline of 20 s, and the graces of relay and outbox.
_STOP_SECONDS = 32.0


@dataclass(frozen=True)
class Place:
    """The servers of a soak, and a folder for its files."""

    kafka: KafkaServer
    soketi: SoketiServer
    endpoint: AuthEndpoint
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """
    What a course ended with.

    Attributes:
        verdict: What became of the events.
        gaps: What was reported.
        faults: What happened.
        looks: The bridge's memory and descriptors.
        accepts: When each connection to the cable came, seconds since the epoch.
        subscriptions: How often the bridge was subscribed.
        witnessed: How many events were emitted while the witness listened, and how
            many of them it missed.
        log: All that the bridge wrote.
    """

    verdict: SoakVerdict
    gaps: list[ReportedGap]
    faults: list[Fault]
    looks: list[Vitals]
    accepts: list[float]
    subscriptions: int
    witnessed: tuple[int, int]
    log: str = field(repr=False)

    @property
    def kinds(self) -> Counter[str]:
        """How often each fault happened."""
        return Counter(fault.kind for fault in self.faults)


class Course:
    """
    A bridge behind a cable, under load, beside a witness.

    Args:
        name: The scenario's name.
        place: The servers.
        options: What was asked for.
        say: Takes lines for people.

    Attributes:
        stage: The topic and the bridge.
        cable: What lies between the bridge and soketi.
        log: What happened when.
        findings: What was wrong on the way.
    """

    def __init__(
        self, name: str, place: Place, options: Options, say: Callable[[str], None]
    ) -> None:
        self._place = place
        self._options = options
        self._say = say
        self._began = 0.0
        self._looks: list[Vitals] = []
        self._load: GroundLoad | None = None
        self.cable = Cable(place.soketi.url)
        self.log = FaultLog(self.tell)
        self.findings: list[str] = []
        self.stage = Stage(
            name,
            place.folder,
            Servers(place.kafka, place.soketi, place.endpoint.url, self.cable.url),
            options,
        )
        self._witness = Witness(place.soketi, self.stage.channel)

    @property
    def ground(self) -> Ground:
        """What was emitted so far."""
        assert self._load is not None
        return self._load.ground

    def tell(self, line: str) -> None:
        """Say a line, with how long the course has lasted."""
        self._say(f"{trio.current_time() - self._began:>8.1f} s  {line}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; what runs is given up at the end of the block."""
        self._began = trio.current_time()
        async with (
            self._place.soketi.publisher() as publisher,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(self.cable.serve)
            nursery.start_soon(self._witness.run)
            await self.stage.bridge.start_and_wait()
            nursery.start_soon(vitals.watch, self.stage.bridge, self._looks)
            self._load = GroundLoad(
                publisher,
                self.stage.channel,
                self._options.rate,
                Random(self._options.seed),
            )
            nursery.start_soon(self._load.run)
            yield
            nursery.cancel_scope.cancel()

    async def finish(self) -> None:
        """Wait until the bridge hears and nothing waits, then end it in order."""
        assert self._load is not None
        bridge = self.stage.bridge
        self.tell("calm, until everything that is on its way has arrived")
        try:
            await bridge.wait_ready(_HEARS_AGAIN_SECONDS)
            heard = (await bridge.metrics()).read
            # A second's events: not the last of a dying connection.
            most = heard + self._options.rate
            await bridge.wait_metrics(lambda now: now.read > most, _HEARS_AGAIN_SECONDS)
            await trio.sleep(_CALM_SECONDS)
            await self._load.stop()
            await trio.sleep(_CALM_SECONDS)
            await bridge.wait_metrics(lambda now: now.waiting == 0, _DRAIN_SECONDS)
            bridge.send(signal.SIGTERM)
            code = await bridge.wait_exit(_STOP_SECONDS)
            if code != 0:
                self.findings.append(f"it ended with {code} after SIGTERM")
        except ProcessError as error:
            self.findings.append(f"at the end: {str(error).splitlines()[0]}")
            bridge.kill()

    async def judge(self) -> Outcome:
        """Read the topics of a bridge that has ended, and judge."""
        records = await self.stage.records()
        gaps, wrong = read_gaps(await self.stage.gaps(), self.stage.topic)
        verdict = judge_soak(
            self.ground,
            records,
            gaps,
            self.log.faults,
            exactly_once=self._options.delivery == "transactional",
        )
        witnessed, missed = self._witness.missed(self.ground.emitted)
        verdict.findings[:0] = [*self.findings, *self.log.findings, *wrong]
        verdict.findings += [
            f"a dead letter at {record.offset}"
            for record in await self.stage.dead_letters()
        ]
        verdict.findings += _dropped(witnessed, missed)
        output = self.stage.bridge.all_output
        return Outcome(
            verdict,
            gaps,
            self.log.faults,
            self._looks,
            self.cable.accepts,
            _count(output, "session.subscribed"),
            (witnessed, len(missed)),
            output,
        )

    async def report_progress(self) -> None:
        """Tell once a minute what was emitted, until cancelled."""
        while True:
            await trio.sleep(_PROGRESS_SECONDS)
            ground = self.ground
            self.tell(
                f"{len(ground.emitted):,} events emitted, {len(ground.unsure):,}"
                f" perhaps, {len(self.log.faults)} faults"
            )


async def soak(
    seconds: float, place: Place, options: Options, say: Callable[[str], None]
) -> Outcome:
    """Let faults happen for so long, and judge what is on the topics."""
    course = Course("soak", place, options, say)
    try:
        faults = Faults(
            course.stage.bridge,
            place.soketi,
            place.kafka,
            course.cable,
            place.endpoint,
            course.log,
        )
        async with course.running():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(course.report_progress)
                nursery.start_soon(faults.supervise)
                with trio.move_on_after(seconds):
                    await faults.run(options.seed)
                nursery.cancel_scope.cancel()
            # One that ends by itself from here on stays down, and is found.
            if not course.stage.bridge.running:
                course.stage.bridge.start()
            await course.finish()
        return await course.judge()
    finally:
        course.stage.bridge.kill()


def _dropped(witnessed: int, missed: list[Emission]) -> list[str]:
    """The rate must be one that soketi delivers, or the verdict says nothing."""
    if not missed:
        return []
    line = (
        f"soketi dropped {len(missed)} of {witnessed} events for a subscriber that"
        f" listened, the first at {missed[0].ended:.3f}: the rate is too high here"
    )
    return [line]


def _count(output: str, event: str) -> int:
    lines = [line for line in output.splitlines() if event in line]
    return sum(json.loads(line)["event"] == event for line in lines)
