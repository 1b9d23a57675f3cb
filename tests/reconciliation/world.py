"""A world for the reconciler: jobs, an outbox that keeps them, a ledger, a dryAPI.

Time is trio's, so that `autojump_clock` moves it on: a second of it is one of the wall
clock that events' times are told by.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import trio
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Answer, Outcome
from bridge.reconciliation.limits import Limits
from bridge.reconciliation.ports import AskedAccount, Rooms
from bridge.reconciliation.reconciler import Reconciler

from bridge.events.record import Envelope, Origin, Record
from bridge.outbox.values import Healing, JobInFlight
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


@dataclass(frozen=True)
class Gap:
    """A gap that has closed."""

    gap_id: str
    client_id: str
    until_us: int | None
    unknown: int | None = None


@dataclass(frozen=True)
class Settled:
    """What the ledger was told of a gap, and when."""

    gap_id: str
    unknown: int
    at: float
    final: bool = False


class Ledger:
    """The gaps that have closed, and what was told of them."""

    def __init__(self) -> None:
        self.closed: dict[str, Gap] = {}
        self.settled: list[Settled] = []
        self.healed_jobs: Counter[str] = Counter()

    def healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> tuple[str, ...]:
        """Give those that a job was in."""
        assert last_seen_us is not None
        assert ended_us is None
        return tuple(
            gap.gap_id
            for gap in self.closed.values()
            if gap.client_id == client_id and last_seen_us < (gap.until_us or 0)
        )

    def healed(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """Count a job for each."""
        assert origin is Origin.STATUS_ENDPOINT
        self.healed_jobs.update(gap_ids)

    def settle(self, gap_id: str, unknown: int, *, final: bool = False) -> None:
        """Write down what is told."""
        self.settled.append(Settled(gap_id, unknown, trio.current_time(), final))

    def expire(self) -> None:
        """Forget nothing."""

    @property
    def unknown(self) -> dict[str, int]:
        """What was told last of each gap."""
        return {settled.gap_id: settled.unknown for settled in self.settled}


class Outbox:
    """The jobs in flight, and the records that healed some of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.healings: list[Healing] = []
        self.is_open = True
        self._known: dict[str, dict[str, JobInFlight]] = {}
        self._kept: list[tuple[Healing, Future[bool]]] = []

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Give an account's jobs, not heard of for longest first."""
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
        """Hear of a job through the socket."""
        if status in {"done", "error"}:
            del self._known[source(client_id)][request_id]
            return
        at_us = now_us() if at_us is None else at_us
        job = JobInFlight(request_id, status, progress, at_us)
        self._known.setdefault(source(client_id), {})[request_id] = job

    def heal(self, healing: Healing) -> Future[bool]:
        """Write it if nothing was heard of the job, now or when it is opened."""
        self.healings.append(healing)
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
        """How many wait, without those that nobody waits for any more."""
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
    """Give the answer that a job has a status."""
    data = {"status": status, "progress": 50.0, "preview": None, "result_url": None}
    return Answer(
        Outcome.ANSWERED, status=200, body=json.dumps({"data": data | more}).encode()
    )


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
        return self.answers.get(request_id, self.default)


class Pace:
    """A budget without limits but those that a test sets."""

    def __init__(self) -> None:
        self.left: dict[Purpose, float] = dict.fromkeys(Purpose, float("inf"))
        self.every_seconds = 0.0
        self.silent_seconds = 0.0
        self.retry_seconds = 10.0
        self.under_way = 0
        self.abandoned = 0
        self.learned: list[bool] = []
        self._free_at = 0.0

    async def acquire(self, purpose: Purpose) -> bool:
        """Wait until it is time."""
        await trio.lowlevel.checkpoint()
        if self.left[purpose] <= 0:
            return False
        await trio.sleep(self.every_seconds)
        if purpose is Purpose.SILENT:
            await trio.sleep(self.silent_seconds)
        await trio.sleep_until(max(self._free_at, trio.current_time()))
        if self.left[purpose] <= 0:
            return False
        self.left[purpose] -= 1
        self.under_way += 1
        return True

    def learn(self, limits: Limits, *, failed: bool) -> None:
        """Wait after a failure, and where a limit says so."""
        self.under_way -= 1
        self.learned.append(failed)
        wait = self.retry_seconds if failed else limits.retry_after_seconds or 0.0
        self._free_at = trio.current_time() + wait

    def abandon(self, *, was_made: bool = True) -> None:
        """Count it."""
        self.under_way -= 1
        self.abandoned += not was_made


@dataclass
class World:
    """The reconciler with all that it needs."""

    client_ids: Sequence[str] = ("42",)
    settings: ReconciliationSettings = field(default_factory=ReconciliationSettings)
    listen_seconds: float = 0.0
    outbox: Outbox = field(default_factory=Outbox)
    ledger: Ledger = field(default_factory=Ledger)
    dryapi: Dryapi = field(default_factory=Dryapi)
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.reconciler = self.new_process()
        self._gaps = 0

    def new_process(self) -> Reconciler:
        """Give a reconciler that knows nothing yet."""
        asked = [
            AskedAccount(
                client_id,
                source(client_id),
                make(client_id),
                self.pace,
                self.dryapi,
            )
            for client_id in self.client_ids
        ]
        self.reconciler = Reconciler(
            self.settings,
            {client_id: source(client_id) for client_id in self.client_ids},
            asked if self.settings.enabled else [],
            Rooms(self.outbox, self.outbox, self.ledger),
            max_event_bytes=MAX_EVENT_BYTES,
            keep_jobs_seconds=KEEP_JOBS_SECONDS,
            listen_seconds=self.listen_seconds,
            now_us=now_us,
        )
        return self.reconciler

    async def runs(self, seconds: float) -> None:
        """Let the reconciler run for so long."""
        with trio.move_on_after(seconds):
            await self.reconciler.run()

    def run_jobs(
        self, names: Iterable[str], client_id: str = "42", age_seconds: float = 5.0
    ) -> None:
        """Have jobs in flight that were heard of some time ago, one after another."""
        for number, name in enumerate(names):
            at_us = now_us() - round(age_seconds * 1_000_000) + number
            self.outbox.hear(client_id, name, "in_progress", "10.00", at_us)

    def close_gap(self, client_id: str = "42") -> str:
        """Close a gap now, and give its id."""
        self._gaps += 1
        gap = Gap(f"gap-{self._gaps}", client_id, now_us())
        self.ledger.closed[gap.gap_id] = gap
        self.reconciler.gap_closed(gap)
        return gap.gap_id
