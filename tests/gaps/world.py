"""A world for the reconciler: jobs, an outbox that keeps them, a ledger, a dryAPI.

Time is trio's, so that `autojump_clock` moves it on: a second of it is one of the wall
clock of events' times.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import trio

from bridge.events.record import Envelope, Origin, Record
from bridge.gaps.gap import Gap, GapCause
from bridge.gaps.ledger import Ledger
from bridge.gaps.limiter import Limits, Purpose
from bridge.gaps.reconciler import (
    GIVE_UP_SECONDS,
    Account,
    Reconciler,
    ReconciliationStatistics,
)
from bridge.gaps.status import Answer, Outcome, event_of
from bridge.outbox.values import Healing, JobInFlight, LeftGap, Memory
from bridge.settings import ReconciliationSettings


# 2026-01-31T12:00:00Z: what trio's clock calls 0.
NOON_US = 1_769_860_800_000_000

MAX_EVENT_BYTES = 900

KEEP_JOBS_SECONDS = 86_400.0


def now_us() -> int:
    """Give the wall clock's time."""
    return NOON_US + round(trio.current_time() * 1_000_000)


def source(client_id: str) -> str:
    """Give an account's `ce_source`."""
    return f"https://api.dryapi.dev/clients/{client_id}"


class Outbox:
    """The jobs in flight, and the records that healed some of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.healed: Counter[str] = Counter()
        self.is_open = True
        self._known: dict[str, dict[str, JobInFlight]] = {}
        self._kept: list[tuple[Healing, Future[bool]]] = []
        # It is its own table of jobs.
        self.jobs = self

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Return an account's jobs, those without an event for longest first."""
        jobs = self._known.get(ce_source, {}).values()
        return sorted(jobs, key=lambda job: job.last_seen_us)

    def find(self, ce_source: str, request_id: str) -> JobInFlight | None:
        """Give a job in flight."""
        return self._known.get(ce_source, {}).get(request_id)

    def hear(
        self,
        client_id: str,
        request_id: str,
        status: str = "in_progress",
        progress: str | None = None,
        at_us: int | None = None,
    ) -> None:
        """Receive an event of a job through the socket."""
        if status in {"done", "error"}:
            del self._known[source(client_id)][request_id]
            return
        at_us = now_us() if at_us is None else at_us
        job = JobInFlight(request_id, status, progress, at_us)
        self._known.setdefault(source(client_id), {})[request_id] = job

    def heal(self, healing: Healing) -> Future[bool]:
        """Write it if the job had no event since, now or when it is opened."""
        future: Future[bool] = Future()
        self._kept.append((healing, future))
        if self.is_open:
            self.open()
        return future

    def open(self) -> None:
        """Write what was kept, and all that comes."""
        self.is_open = True
        kept, self._kept = self._kept, []
        for healing, future in kept:
            if future.set_running_or_notify_cancel():
                future.set_result(self._write(healing))

    def begin_anew(self) -> None:
        """Drop what was kept, as with a damaged file."""
        for _, future in self._kept:
            future.cancel()
        self._kept.clear()
        self.is_open = True

    @property
    def kept(self) -> int:
        """How many wait, without those that were cancelled."""
        return sum(not future.cancelled() for _, future in self._kept)

    def _write(self, healing: Healing) -> bool:
        record, job = healing.record, healing.job
        if record.status is not None:
            ce_source = record.envelope.ce_source
            if self.find(ce_source, job.request_id) != job:
                return False
            if record.status in {"done", "error"}:
                del self._known[ce_source][job.request_id]
        self.records.append(record)
        self.healed.update(healing.gap_ids)
        return True

    @property
    def ended(self) -> set[str]:
        """The jobs of which an end was written."""
        return {
            record.key.decode()
            for record in self.records
            if record.key is not None and record.status in {"done", "error"}
        }


def make(client_id: str) -> Callable[[bytes, int], Record]:
    """Give what makes an account's records, as the intake does: in short."""
    envelope = Envelope(
        source(client_id), "type", Origin.STATUS_ENDPOINT, "application/json"
    )

    def record(event: bytes, received_at_us: int) -> Record:
        told = json.loads(event)
        fits = len(event) <= MAX_EVENT_BYTES and told["status"] in {
            "processing", "done", "error"
        }  # fmt: skip
        return Record(
            topic="jobs" if fits else "jobs.dlq",
            key=told["request_id"].encode(),
            value=event,
            received_at_us=received_at_us,
            envelope=envelope,
            status=told["status"] if fits else None,
        )

    return record


def answered(status: str, **more: object) -> Answer:
    """Give the answer that a job has a status; `Dryapi` makes an event of the body."""
    data = {"status": status, "progress": 50.0, "preview": None, "result_url": None}
    body = json.dumps({"data": data | more}).encode()
    return Answer(Outcome.ANSWERED, status=200, event=body)


NOT_FOUND = Answer(Outcome.NOT_FOUND, status=404, reason="dryAPI doesn't know the job")
FAILED = Answer(Outcome.FAILED, status=503, reason="HTTP 503")
REFUSED = Answer(Outcome.REFUSED, status=401, reason="check the token")
LIMITED = Answer(
    Outcome.LIMITED,
    Limits(retry_after_seconds=30, limited_by="minute"),
    status=429,
    reason="HTTP 429",
)


class Dryapi:
    """The status endpoint by a script."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.default = answered("processing")
        self.asked: list[tuple[str, float]] = []
        self.now = 0
        self.seconds = 0.1
        self.before_answer: Callable[[str], None] = lambda _: None

    @property
    def jobs_asked(self) -> list[str]:
        """What it was asked about, in order."""
        return [request_id for request_id, _ in self.asked]

    async def ask(self, request_id: str) -> Answer:
        """Answer after a while."""
        self.asked.append((request_id, trio.current_time()))
        self.now += 1
        try:
            await trio.sleep(self.seconds)
        finally:
            self.now -= 1
        self.before_answer(request_id)
        answer = self.answers.get(request_id, self.default)
        if answer.event is None:
            return answer
        job_status, event = event_of(request_id, answer.event)
        return msgspec.structs.replace(answer, job_status=job_status, event=event)


class Pace:
    """Limits of a test's own, as a `Limiter` has them."""

    def __init__(self) -> None:
        self.left: dict[Purpose, float] = dict.fromkeys(Purpose, float("inf"))
        self.every_seconds = 0.0
        self.retry_seconds = 10.0
        self.in_flight = 0
        self._free_at = 0.0

    def possible_at(self, purpose: Purpose) -> float | None:
        """Say when."""
        return (
            None if self.left[purpose] <= 0 else max(trio.current_time(), self._free_at)
        )

    def begin(self, purpose: Purpose) -> None:
        """Count a call."""
        assert not self.in_flight
        assert trio.current_time() >= self._free_at
        self.left[purpose] -= 1
        self.in_flight += 1

    def end(self, limits: Limits, *, failed: bool = False) -> None:
        """Wait after it, longer after a failure or where a limit says so."""
        self.in_flight -= 1
        wait = self.retry_seconds if failed else limits.retry_after_seconds or 0.0
        self._free_at = trio.current_time() + max(wait, self.every_seconds)


@dataclass
class World:
    """The reconciler with all that it needs."""

    client_ids: Sequence[str] = ("42",)
    settings: ReconciliationSettings = field(default_factory=ReconciliationSettings)
    give_up_seconds: float = GIVE_UP_SECONDS
    outbox: Outbox = field(default_factory=Outbox)
    dryapi: Dryapi = field(default_factory=Dryapi)
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.gaps: dict[str, Gap] = {}
        # What the outbox remembers of gaps for the next process.
        self.left: dict[str, bytes] = {}
        self.new_process(Memory({}, was_stopped=True, left_gaps=()))

    def keep(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """Read the records of gaps."""
        gap = Gap.decode(record.value)
        self.gaps[gap.gap_id] = gap
        if opens is not None:
            self.left[opens] = record.value
        if closes is not None:
            del self.left[closes]

    def restart(self) -> None:
        """Have the next process, which knows what is on disk."""
        healed = self.outbox.healed
        left = (LeftGap(value, healed[gap]) for gap, value in self.left.items())
        self.new_process(Memory({}, was_stopped=True, left_gaps=tuple(left)))

    def new_process(self, memory: Memory) -> None:
        """Have a ledger and a reconciler that know nothing but what is left."""
        sources = {client_id: source(client_id) for client_id in self.client_ids}
        self.ledger = Ledger("gaps", sources, self.keep, now_ns=lambda: now_us() * 1000)
        self.statistics = ReconciliationStatistics(self.client_ids)
        is_asked = self.settings.enabled
        self.reconciler = Reconciler(
            [Account(one, sources[one], make(one)) for one in self.client_ids],
            self.settings,
            ledger=self.ledger,
            outbox=cast("Any", self.outbox),
            statistics=self.statistics,
            limiter=cast("Any", self.pace) if is_asked else None,
            ask=self.dryapi.ask if is_asked else None,
            max_event_bytes=MAX_EVENT_BYTES,
            keep_jobs_seconds=KEEP_JOBS_SECONDS,
            give_up_seconds=self.give_up_seconds,
            now_us=now_us,
        )
        self.ledger.on_closed = self.reconciler.gap_closed
        self.ledger.restore(memory)

    async def runs(self, seconds: float) -> None:
        """Let the reconciler run for so long."""
        with trio.move_on_after(seconds):
            await self.reconciler.run()

    def run_jobs(
        self, names: Iterable[str], client_id: str = "42", age_seconds: float = 5.0
    ) -> None:
        """Have jobs in flight whose last event is some time ago, one after another."""
        for number, name in enumerate(names):
            at_us = now_us() - round(age_seconds * 1_000_000) + number
            self.outbox.hear(client_id, name, "in_progress", "10.00", at_us)

    def close_gap(self, client_id: str = "42") -> str:
        """Close a gap now, and give its id."""
        since_us = now_us() - 1_000_000
        gap_id = self.ledger.open(client_id, GapCause.DISCONNECTED, since_us)
        self.ledger.close(gap_id, now_us())
        return gap_id
