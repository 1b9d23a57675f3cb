"""`make healing`: jobs end before, within and across gaps, and all end in Kafka.

Owns the course: accounts and their jobs upstream, the bridge behind a cable, and what
is read along and at the end. The gaps stand in `healing_faults`, the judgement in
`healing_verdict` and `healing_ledger`, its words in `healing_report`.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import trio

from tests.chaos.cable import Cable
from tests.chaos.fates import Span, Truth
from tests.chaos.fault_log import Fault, FaultLog
from tests.chaos.follower import Follower
from tests.chaos.gaps import ReportedGap, read_gaps
from tests.chaos.healing_faults import HealingFaults
from tests.chaos.healing_stage import (
    SILENT_SECONDS,
    HealingPlace,
    draw_members,
    start_jobs,
)
from tests.chaos.healing_verdict import (
    HealingVerdict,
    judge_healing,
    settling_seconds,
    waiting,
)
from tests.chaos.soak_verdict import false_gaps
from tests.chaos.upstream import Member, Upstream, UpstreamAccount, serving
from tests.kit.bridge_process import BridgeProcess
from tests.kit.process import ProcessError, free_ports
from tests.kit.reader import Record


__all__ = [
    "HealingCourse",
    "HealingOutcome",
    "healing",
]

_JOBS_END_SECONDS = 60.0
_HEARD_SECONDS = 20.0
_LOOK_SECONDS = 0.5
# A try's wait, after as many as several long gaps in a row cost, and its answer.
_DELIVER_SECONDS = 120.0
_STOP_SECONDS = 32.0


@dataclass(frozen=True)
class HealingOutcome:
    """
    What a run ended with.

    Attributes:
        verdict: What became of the jobs.
        gaps: What was reported, by account.
        faults: What happened.
        members: The accounts.
        dead_letters: How many there are, by reason.
        verified: What `bridge verify` said.
        log: All that the bridge wrote.
    """

    verdict: HealingVerdict
    gaps: Mapping[str, Sequence[ReportedGap]]
    faults: Sequence[Fault]
    members: Sequence[Member]
    dead_letters: Counter[str]
    verified: str
    log: str = field(repr=False)


class HealingCourse:
    """
    Accounts with jobs, and a bridge behind a cable.

    Args:
        place: Where.
        members: The accounts.
        webhook_port: Where the bridge takes webhooks.
        delivery: The bridge's mode.
        settings: More of the bridge's settings, as environment without `BRIDGE_`.
        say: Takes lines for people.

    Attributes:
        bridge: The bridge.
        cable: What lies between it and soketi.
        log: What happened when.
        findings: What was wrong on the way.
    """

    def __init__(
        self,
        place: HealingPlace,
        members: Sequence[Member],
        webhook_port: int,
        *,
        delivery: str = "idempotent",
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._place = place
        self._members = members
        self._settings = {"DELIVERY": delivery, **(settings or {})}
        if any(member.webhook_url for member in members):
            self._settings["WEBHOOK_LISTEN"] = f"127.0.0.1:{webhook_port}"
        self._say = say
        self._began = 0.0
        self._upstream: Upstream | None = None
        self._bridge: BridgeProcess | None = None
        self._follower: Follower | None = None
        self.cable = Cable(place.soketi.url)
        self.log = FaultLog(self.tell)
        self.findings: list[str] = []

    @property
    def bridge(self) -> BridgeProcess:
        """The bridge."""
        assert self._bridge is not None
        return self._bridge

    @property
    def upstream(self) -> Upstream:
        """What it hears of."""
        assert self._upstream is not None
        return self._upstream

    @property
    def accounts(self) -> list[UpstreamAccount]:
        """The accounts."""
        return list(self.upstream.accounts.values())

    def tell(self, line: str) -> None:
        """Say a line, with how long the course has lasted."""
        self._say(f"{trio.current_time() - self._began:>8.1f} s  {line}")

    @asynccontextmanager
    async def running(self, seed: int) -> AsyncIterator[None]:
        """Start everything; what runs is given up at the end of the block."""
        self._began = trio.current_time()
        topic, kafka = self._place.topic, self._place.kafka
        self._follower = Follower(
            kafka.bootstrap_servers, [topic, f"{topic}.gaps", f"{topic}.dlq"]
        )
        async with (
            serving(self._place.soketi, self._members, seed) as self._upstream,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(self.cable.serve)
            nursery.start_soon(self._follower.run)
            self._bridge = self._place.bridge(
                self._members, self._upstream.url, self.cable.url, self._settings
            )
            try:
                await self._bridge.start_and_wait()
                yield
            finally:
                self._bridge.kill()
            nursery.cancel_scope.cancel()

    # -- Jobs -----------------------------------------------------------------

    async def start_jobs(self, seed: int) -> None:
        """Start jobs of all accounts until cancelled."""
        async with trio.open_nursery() as nursery:
            for account in self.accounts:
                random = Random(f"{seed}/{account.member.client_id}")
                nursery.start_soon(start_jobs, account, random)

    async def heard(self, request_ids: Collection[str]) -> None:
        """Wait until a consumer has had a record of each of these jobs."""
        with trio.fail_after(_HEARD_SECONDS):
            while not set(request_ids) <= {  # noqa: ASYNC110 - a topic makes no event
                record.key.decode() for record in self._records() if record.key
            }:
                await trio.sleep(_LOOK_SECONDS)

    async def end_jobs(self) -> None:
        """Wait until every job has ended upstream."""
        with trio.fail_after(_JOBS_END_SECONDS):
            # The sandbox tells nobody when a job has ended.
            while any(account.running for account in self.accounts):  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)

    # -- The end --------------------------------------------------------------

    async def finish(self) -> None:
        """Wait until all that can be known is on the topics, then end the bridge."""
        self.tell("calm, until what can be healed is healed")
        try:
            await self.bridge.wait_ready()
            await self._healed()
            await self._delivered()
            await self._settled()
            self.bridge.send(signal.SIGTERM)
            code = await self.bridge.wait_exit(_STOP_SECONDS)
            if code != 0:
                self.findings.append(f"it ended with {code} after SIGTERM")
        except ProcessError as error:
            self.findings.append(f"at the end: {str(error).splitlines()[0]}")

    async def _healed(self) -> None:
        """Wait as long as any job may still be healed in time."""
        while True:
            left = waiting(self.truth(), self._records(), self._seen(), self._gaps())
            # What is waited for in vain is found by the judge.
            if not any(each.until >= time.time() for each in left):
                return
            await trio.sleep(_LOOK_SECONDS)

    async def _delivered(self) -> None:
        """Wait for webhooks of jobs that have ended by another way meanwhile."""
        with trio.move_on_after(_DELIVER_SECONDS):
            # The sandbox tells nobody when none waits any more.
            while any(each.open_webhooks for each in self.accounts):  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)

    async def _settled(self) -> None:
        with trio.move_on_after(settling_seconds(self.truth(), self._records())):
            # What stands on a topic makes no event.
            while any(  # noqa: ASYNC110
                gap.unknown is None for gaps in self._gaps().values() for gap in gaps
            ):
                await trio.sleep(_LOOK_SECONDS)

    def truth(self) -> Truth:
        """Give what is known beside the bridge."""
        for account in self.accounts:
            account.close_books()
        return Truth(
            [account.truth for account in self.accounts],
            status_faults=self._spans("status endpoint"),
            bridge_away=self._spans("bridge"),
            silent_seconds=SILENT_SECONDS,
            starts=1 + len(self._spans("bridge")),
        )

    def _spans(self, kind: str) -> list[Span]:
        now = float("inf")
        return [
            Span(fault.begun, fault.ended or now)
            for fault in self.log.faults
            if fault.kind.startswith(kind)
        ]

    def _records(self) -> list[Record]:
        assert self._follower is not None
        return self._follower.records[self._place.topic]

    def _seen(self) -> dict[tuple[int, int], float]:
        assert self._follower is not None
        return self._follower.seen_of(self._place.topic)

    def _gaps(self) -> dict[str, list[ReportedGap]]:
        assert self._follower is not None
        return self._of_accounts(self._follower.records[f"{self._place.topic}.gaps"])[0]

    def _of_accounts(
        self, records: Sequence[Record]
    ) -> tuple[dict[str, list[ReportedGap]], list[str]]:
        gaps, wrong = {}, []
        for member in self._members:
            own = [each for each in records if each.key == member.client_id.encode()]
            gaps[member.client_id], found = read_gaps(own, member.client_id)
            wrong += found
        return gaps, wrong

    async def judge(self) -> HealingOutcome:
        """Read the topics of a bridge that has ended, and judge."""
        records = await self._place.read()
        gaps, wrong = self._of_accounts(await self._place.read(".gaps"))
        verdict = judge_healing(self.truth(), records, self._seen(), gaps)
        verdict.findings[:0] = [*self.findings, *self.log.findings, *wrong]
        for own in gaps.values():
            false = false_gaps(own, self.log.faults)
            verdict.findings += [f"false: {gap}" for gap in false]
        letters = Counter(
            record.headers["bridge_reason"].decode()
            for record in await self._place.read(".dlq")
        )
        # The socket's own event, behind a webhook that was released.
        verdict.findings += [
            f"{count} dead letters: {reason}"
            for reason, count in letters.items()
            if reason != "after_terminal"
        ]
        code, said = await self._place.verify(self.bridge.outbox)
        if code != 0:
            verdict.findings.append(f"bridge verify ended with {code}: {said}")
        return HealingOutcome(
            verdict,
            gaps,
            self.log.faults,
            self._members,
            letters,
            said,
            self.bridge.all_output,
        )


async def healing(
    seconds: float,
    place: HealingPlace,
    seed: int,
    delivery: str,
    say: Callable[[str], None],
) -> HealingOutcome:
    """Let jobs and gaps happen for so long, and judge what is on the topics."""
    (port,) = free_ports(1)
    members = draw_members(Random(seed), port)
    for member in members:
        hooked = "with webhooks" if member.webhook_url else "without webhooks"
        say(
            f"account {member.client_id}: {member.plan}, {hooked},"
            f" {member.job_rate:g} jobs/s"
        )
    course = HealingCourse(place, members, port, delivery=delivery, say=say)
    async with course.running(seed):
        faults = HealingFaults(
            course.bridge, place.soketi, course.cable, course.upstream, course.log
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(course.start_jobs, seed)
            with trio.move_on_after(seconds):
                await faults.run(seed)
            nursery.cancel_scope.cancel()
        await course.end_jobs()
        await course.finish()
        return await course.judge()
