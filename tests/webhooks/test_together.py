"""Webhooks and the socket's events in one real outbox: the first end counts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests are the sender
import trio
from bridge.webhooks.statistics import Release

from bridge.events import dead_letter
from bridge.events.record import StoredRecord
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.outbox.making import open_topics, threaded
from tests.rules.intake import Outlet, event, status
from tests.sandbox.client import wait_until
from tests.webhooks.making import (
    CLIENT_ID,
    body_of,
    completed,
    failed,
    processing,
    signed,
)
from tests.webhooks.taking import Taking


# So long that the socket is sure to be faster.
_LONG_SECONDS = 1.0
_GAPS = ("gap-1",)

# As the webhooks of jobs that have ended say.
_ENDED_US = 1_800_000_000_000_000

# The rows that Kafka has, by topic and partition.
_Log = dict[tuple[str, int], list[StoredRecord]]


class _Bridge:
    """What takes webhooks, and lets them go, in front of an outbox."""

    def __init__(self, outbox: Outbox, log: _Log, hold_seconds: float) -> None:
        self._outbox = outbox
        self._log = log
        self.taking = Taking(outbox, hold_seconds, _GAPS)
        self.released = self.taking.statistics.released
        transport = httpx.ASGITransport(self.taking.receiver.app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://bridge")

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
        nursery.start_soon(bridge.taking.holding.run)
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
        assert bridge.taking.written == []
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
        assert bridge.taking.written == [("job-1", _GAPS)]
        ((who, heard_us, ended_us),) = bridge.taking.asked
        assert (who, ended_us) == (CLIENT_ID, _ENDED_US)
        assert heard_us is not None


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
        # That it began heals nothing.
        assert len(bridge.taking.asked) == 1
        assert bridge.taking.written == [("job-1", _GAPS)]


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
        assert bridge.taking.asked == [(CLIENT_ID, None, _ENDED_US)] * 2
