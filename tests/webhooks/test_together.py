"""Webhooks and the socket's events in one real outbox: the first end counts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests are the sender
import pytest
import trio

from bridge.events import dead_letter
from bridge.events.record import StoredRecord
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings, Secret, WebhookSettings
from bridge.webhooks.holding import Holding
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import Release, WebhookStatistics
from bridge.webhooks.steady import steady_clock
from tests.outbox.making import open_topics, threaded
from tests.rules.intake import Outlet, event, status
from tests.sandbox.client import wait_until
from tests.webhooks.making import (
    CLIENT_ID,
    SECRET,
    SOURCE,
    body_of,
    completed,
    failed,
    make_of,
    processing,
    signed,
)


# So long that the socket is sure to be faster.
_LONG_SECONDS = 1.0
_GAPS = ("gap-1",)

# The rows that Kafka has, by topic and partition.
_Log = dict[tuple[str, int], list[StoredRecord]]


class _Bridge:
    """
    What takes webhooks, and lets them go, in front of an outbox.

    Attributes:
        healed: What was healed: the job, and its gaps.
        heard: When each job had been heard of last, as the ledger was told.
        holding: Lets them go.
        released: How many, and what became of them.
    """

    def __init__(self, outbox: Outbox, log: _Log, hold_seconds: float) -> None:
        self.healed: list[tuple[str, tuple[str, ...]]] = []
        self.heard: list[int | None] = []
        self._outbox = outbox
        self._log = log
        steady_us, statistics = steady_clock(), WebhookStatistics([CLIENT_ID])
        self.released = statistics.released
        self.holding = Holding(
            outbox,
            find=outbox.jobs.find,
            healable=self._healable,
            on_written=lambda _, job, gaps: self.healed.append((job, tuple(gaps))),
            client_ids={SOURCE: CLIENT_ID},
            hold_seconds=hold_seconds,
            steady_us=steady_us,
            statistics=statistics,
        )
        receiver = Receiver(
            [Recipient(CLIENT_ID, Secret(SECRET), make_of())],
            take=outbox.take,
            expect=self.holding.expect,
            statistics=statistics,
            settings=WebhookSettings(hold_seconds=hold_seconds),
            steady_us=steady_us,
            is_single=True,
        )
        transport = httpx.ASGITransport(receiver.app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://bridge")

    def _healable(self, _: str, heard_us: int | None, ended_us: int | None) -> Any:
        assert ended_us is not None
        self.heard.append(heard_us)
        return _GAPS

    async def post(self, name: str, data: object, **members: Any) -> str:
        """Send a webhook; give what is answered."""
        body = body_of(name, data, **members)
        headers = signed(body, time.time())
        answer = await self._http.post(
            "/webhooks/dryapi", content=body, headers=headers
        )
        return str(answer.json()["status"])

    def hear(self, told: str) -> None:
        """Read an event of the socket's."""
        outlet = Outlet()
        outlet.intake.accept([event(told)], time.time_ns() // 1000)
        self._outbox.offer(outlet.runs[-1])

    async def left(self, count: int) -> None:
        """Wait until so many webhooks have left."""
        await wait_until(lambda: sum(self.released.values()) == count)
        await wait_until(lambda: self._outbox.statistics.rows == 0)

    def rows(self, topic: str = "jobs") -> list[tuple[str, str, str]]:
        """Give what stands on a topic: job, status and origin of each record."""
        values = [
            (json.loads(row.value), row.envelope.origin)
            for (name, _), rows in self._log.items()
            for row in rows
            if name == topic
        ]
        return [(told["request_id"], told["status"], by) for told, by in values]


@asynccontextmanager
async def _bridge(path: Path, hold_seconds: float = 0.2) -> AsyncIterator[_Bridge]:
    refuse_late = partial(dead_letter.late, topic="jobs.dlq", max_bytes=100_000)
    with OutboxDirectory(path) as directory:
        settings = OutboxSettings(dir=path)
        outbox = Outbox(directory, settings, refuse_late=refuse_late)
        open_topics(outbox, "jobs", "jobs.dlq")
        with threaded(outbox) as log:
            async with _in_front_of(outbox, log, hold_seconds) as bridge:
                yield bridge
        outbox.close()


@asynccontextmanager
async def _in_front_of(
    outbox: Outbox, log: _Log, hold_seconds: float
) -> AsyncIterator[_Bridge]:
    bridge = _Bridge(outbox, log, hold_seconds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.holding.run)
        yield bridge
        nursery.cancel_scope.cancel()


async def test_the_sockets_own_end_comes_first(tmp_path: Path) -> None:
    """It has the preview; the webhook that told the same is not needed."""
    async with _bridge(tmp_path, _LONG_SECONDS) as bridge:
        bridge.hear(status(status="in_progress"))
        assert await bridge.post("job.completed", completed()) == "taken"
        bridge.hear(status(status="done", result_url="https://r", progress="100.00"))
        await bridge.left(1)
        assert bridge.rows() == [
            ("job-1", "in_progress", "socket"),
            ("job-1", "done", "socket"),
        ]
        assert bridge.released == {Release.WRITTEN: 0, Release.SUPERSEDED: 1}
        assert bridge.healed == []
        assert bridge.rows("jobs.dlq") == []


async def test_a_failed_job_is_known_from_its_webhook(tmp_path: Path) -> None:
    """The socket never says it; its gaps are healed, and what it says late is late."""
    async with _bridge(tmp_path) as bridge:
        bridge.hear(status(status="in_progress"))
        await bridge.post("job.failed", failed())
        await bridge.left(1)
        bridge.hear(status(status="done"))
        await wait_until(lambda: bridge.rows("jobs.dlq"))
        assert bridge.rows() == [
            ("job-1", "in_progress", "socket"),
            ("job-1", "error", "webhook"),
        ]
        assert bridge.rows("jobs.dlq") == [("job-1", "done", "socket")]
        assert bridge.healed == [("job-1", _GAPS)]
        assert bridge.heard[0] is not None


async def test_a_job_that_nobody_heard_of(tmp_path: Path) -> None:
    """It began and ended in a gap: both its webhooks are written, in order."""
    async with _bridge(tmp_path) as bridge:
        await bridge.post("job.processing", processing())
        await bridge.post("job.completed", completed())
        await bridge.left(2)
        assert bridge.rows() == [
            ("job-1", "processing", "webhook"),
            ("job-1", "done", "webhook"),
        ]
        assert bridge.healed == [("job-1", _GAPS)]


async def test_a_beginning_that_the_socket_has_told(tmp_path: Path) -> None:
    """What is known of a job is no news."""
    async with _bridge(tmp_path, _LONG_SECONDS) as bridge:
        await bridge.post("job.processing", processing())
        bridge.hear(status(status="in_progress"))
        await bridge.left(1)
        assert bridge.rows() == [("job-1", "in_progress", "socket")]
        assert bridge.released[Release.SUPERSEDED] == 1


@pytest.mark.parametrize("events", [("completed", "failed"), ("failed", "completed")])
async def test_two_ends_are_one(tmp_path: Path, events: Sequence[str]) -> None:
    """The first that came is the end, whichever it is."""
    data = {"completed": completed(), "failed": failed()}
    async with _bridge(tmp_path) as bridge:
        for name in events:
            await bridge.post(f"job.{name}", data[name])
        await bridge.left(2)
        ends = {"completed": "done", "failed": "error"}
        assert bridge.rows() == [("job-1", ends[events[0]], "webhook")]
        assert len(bridge.healed) == 1
        assert bridge.rows("jobs.dlq") == []


async def test_what_makes_no_sense_is_on_the_dead_letters(tmp_path: Path) -> None:
    """At once, and each delivery once."""
    async with _bridge(tmp_path) as bridge:
        for said in ("taken", "known"):
            answer = await bridge.post("job.completed", {"id": 7}, delivery_id="d-1")
            assert answer == said
        await wait_until(lambda: sum(bridge.released.values()) == 1, seconds=5)
        assert bridge.released[Release.WRITTEN] == 1
        assert bridge.rows() == []


async def test_what_is_held_outlives_the_process(tmp_path: Path) -> None:
    """The next one knows the deliveries, and holds them as long as it would."""
    async with _bridge(tmp_path, hold_seconds=3600) as bridge:
        for job in ("job-1", "job-2"):
            await bridge.post("job.failed", failed(job), delivery_id=f"of {job}")
        assert bridge.rows() == []
    async with _bridge(tmp_path) as bridge:
        for job in ("job-1", "job-2"):
            said = await bridge.post("job.failed", failed(job), delivery_id=f"of {job}")
            assert said == "known"
        await bridge.left(2)
        assert [(job, by) for job, _, by in bridge.rows()] == [
            ("job-1", "webhook"),
            ("job-2", "webhook"),
        ]
