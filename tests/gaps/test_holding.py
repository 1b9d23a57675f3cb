"""When held webhooks are released, and which of them are written."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bridge.errors import OutboxFullError
from bridge.events import dead_letter
from bridge.events.record import Origin, StoredRecord
from bridge.gaps.gap import GapCause
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, JobInFlight
from tests.gaps.webhooks import (
    CLIENT_ID,
    NOW,
    NOW_US,
    MemoryOutbox,
    Receiving,
    body_of,
    completed,
    failed,
    make_of,
    processing,
)
from tests.outbox.making import open_topics, opened, threaded
from tests.rules.intake import Outlet, event, status
from tests.sandbox.client import wait_until


_SECOND_US = 1_000_000
_HOUR_US = 3600 * _SECOND_US


def _left(job: str, due_us: int, client_id: str = CLIENT_ID) -> Delivery:
    """Make a webhook that an earlier process left on disk."""
    value = status(request_id=job, status="done").encode()
    return Delivery(job, make_of(client_id)(value, NOW_US), due_us)


# -- When ------------------------------------------------------------------------------


@pytest.mark.parametrize("grace_period_seconds", [0.0, 10.0])
@pytest.mark.parametrize("jump_seconds", [-3600, 0, 3600])
async def test_webhook_is_held_for_the_grace_period(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    grace_period_seconds: float,
    jump_seconds: int,
) -> None:
    """Whatever the wall clock does; 0 means no wait."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW, grace_period_seconds=grace_period_seconds)
    nursery.start_soon(receiving.holding.run)
    begun = trio.current_time()
    await trio.sleep(20)
    await receiving.post(body_of("job.completed", completed()))
    await trio.sleep(2)
    receiving.now += jump_seconds
    await receiving.post(body_of("job.failed", failed("job-2")))
    await trio.sleep(60)
    seconds = [released_at - begun for released_at, _ in outbox.released.values()]
    expected = [20 + grace_period_seconds, 22 + grace_period_seconds]
    assert seconds == [pytest.approx(one, abs=0.11) for one in expected]
    nursery.cancel_scope.cancel()


async def test_webhook_that_is_written_after_its_503_is_released(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The disk was too slow for its sender, and wrote it nevertheless."""
    outbox = MemoryOutbox()
    nursery.start_soon(Receiving(outbox, now=NOW).holding.run)
    await trio.sleep(100)
    place = outbox.put(_left("job-1", NOW_US + 110 * _SECOND_US))
    await trio.sleep(60)
    assert list(outbox.released) == [place]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("due_us", "seconds"),
    [(-_HOUR_US, 0), (4 * _SECOND_US, 4), (10 * _SECOND_US, 10), (_HOUR_US, 10)],
)
async def test_webhook_of_an_earlier_process_is_released(
    nursery: trio.Nursery, autojump_clock: MockClock, due_us: int, seconds: float
) -> None:
    """When it is due, and ten seconds after the start if that clock was ahead."""
    outbox = MemoryOutbox()
    place = outbox.put(_left("job-1", NOW_US + due_us))
    begun = trio.current_time()
    nursery.start_soon(Receiving(outbox, now=NOW).holding.run)
    await trio.sleep(60)
    assert outbox.released[place][0] - begun == pytest.approx(seconds, abs=0.11)
    nursery.cancel_scope.cancel()


async def test_many_webhooks_of_a_clock_that_was_ahead_hide_no_others(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """All are released in time, each once."""
    outbox = MemoryOutbox()
    ahead = {outbox.put(_left(f"a{n}", NOW_US + _HOUR_US + n)) for n in range(700)}
    soon = {outbox.put(_left(f"s{n}", NOW_US + 5 * _SECOND_US)) for n in range(1700)}
    receiving = Receiving(outbox, now=NOW)
    nursery.start_soon(receiving.holding.run)
    await trio.sleep(0.01)
    for number in range(600):
        await receiving.post(body_of("job.completed", completed(f"own-{number}")))
    await trio.sleep(9.8)
    assert set(outbox.released) == soon
    await trio.sleep(0.5)
    assert len(outbox.released) == 3000
    assert ahead < set(outbox.released)
    assert receiving.holding.released == {"written": 3000, "superseded": 0}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("trouble", [OutboxFullError("full"), "closed"])
async def test_outbox_in_trouble_is_asked_again(
    nursery: trio.Nursery, autojump_clock: MockClock, trouble: OutboxFullError | str
) -> None:
    """Each second; a webhook counts once it is released, and heals its gaps."""
    outbox = MemoryOutbox()
    receiving = Receiving(outbox, now=NOW)
    outbox.in_flight["job-1"] = JobInFlight("job-1", "processing", None, NOW_US)
    gap_id = receiving.books.ledger.open(CLIENT_ID, GapCause.DISCONNECTED, NOW_US)
    place = outbox.put(_left("job-1", NOW_US + 8 * _SECOND_US))
    gone = outbox.put(_left("job-2", NOW_US + 8 * _SECOND_US, "gone"))
    nursery.start_soon(receiving.holding.run)
    await trio.sleep(7)
    outbox.trouble = trouble
    await trio.sleep(20)
    assert receiving.holding.released == {"written": 0, "superseded": 0}
    assert outbox.reads < 30
    outbox.trouble = None
    await trio.sleep(2)
    # The account of the second one isn't configured any more.
    assert {where: gaps for where, (_, gaps) in outbox.released.items()} == {
        place: (gap_id,),
        gone: (),
    }
    assert receiving.holding.released == {"written": 2, "superseded": 0}
    healed = receiving.books.ledger.statistics.healed
    assert healed[CLIENT_ID, Origin.WEBHOOK] == 1
    nursery.cancel_scope.cancel()


# -- Which, in a real outbox -----------------------------------------------------------


class _Bridge:
    """A receiver and a holding in front of an outbox, and the log behind it."""

    def __init__(
        self,
        outbox: Outbox,
        log: dict[tuple[str, int], list[StoredRecord]],
        grace_period_seconds: float,
    ) -> None:
        self.receiving = Receiving(outbox, grace_period_seconds=grace_period_seconds)
        # From before the end that the webhooks below name.
        ledger = self.receiving.books.ledger
        now_us = time.time_ns() // 1000
        ledger.open(CLIENT_ID, GapCause.DISCONNECTED, now_us)
        # The ledger's clock stands still: at a moment after all of the test.
        self.receiving.books.now_us = now_us + 3_600_000_000
        self.released = self.receiving.holding.released
        self._outbox = outbox
        self._log = log

    async def post(self, name: str, data: object, **members: object) -> str:
        """Send a webhook; return the outcome."""
        answer = await self.receiving.post(body_of(name, data, **members))
        return str(answer.json()["status"])

    def receive(self, payload: str) -> None:
        """Read an event from the socket."""
        outlet = Outlet()
        outlet.intake.accept([event(payload)], time.time_ns() // 1000)
        self._outbox.offer(outlet.runs[-1])

    async def released_are(self, count: int) -> None:
        """Wait until so many webhooks are released and delivered."""
        await wait_until(lambda: sum(self.released.values()) == count)
        await wait_until(lambda: self._outbox.statistics.rows == 0)

    def rows(self, topic: str = "jobs") -> list[tuple[str, str, str]]:
        """Return job, status and origin of each record on a topic."""
        rows = [
            (json.loads(row.value), str(row.envelope.origin))
            for (name, _), rows in self._log.items()
            for row in rows
            if name == topic
        ]
        return [(value["request_id"], value["status"], by) for value, by in rows]

    @property
    def healed(self) -> int:
        """How many jobs of the open gap webhooks have ended."""
        statistics = self.receiving.books.ledger.statistics
        return statistics.healed[CLIENT_ID, Origin.WEBHOOK]


@asynccontextmanager
async def _bridge(
    path: Path, grace_period_seconds: float = 0.2
) -> AsyncIterator[_Bridge]:
    refuse_late = partial(dead_letter.late, topic="jobs.dlq", max_bytes=100_000)
    with opened(path, refuse_late=refuse_late) as outbox:
        open_topics(outbox, "jobs.dlq")
        with threaded(outbox) as log:
            bridge = _Bridge(outbox, log, grace_period_seconds)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bridge.receiving.holding.run)
                yield bridge
                nursery.cancel_scope.cancel()


async def test_own_end_of_the_socket_supersedes_the_webhook(tmp_path: Path) -> None:
    """It has the preview; it heals nothing, and there is one terminal record."""
    async with _bridge(tmp_path, grace_period_seconds=1.0) as bridge:
        bridge.receive(status(status="in_progress"))
        assert await bridge.post("job.completed", completed()) == "taken"
        bridge.receive(status(status="done", result_url="https://r", progress="100.00"))
        await bridge.released_are(1)
        assert bridge.rows() == [
            ("job-1", "in_progress", "socket"),
            ("job-1", "done", "socket"),
        ]
        assert bridge.released == {"written": 0, "superseded": 1}
        assert (bridge.healed, bridge.rows("jobs.dlq")) == (0, [])


async def test_failed_job_is_known_from_its_webhook(tmp_path: Path) -> None:
    """The socket never sends it. A later event of the job is a dead letter."""
    async with _bridge(tmp_path) as bridge:
        bridge.receive(status(status="in_progress"))
        await bridge.post("job.failed", failed())
        await bridge.released_are(1)
        bridge.receive(status(status="done"))
        await wait_until(lambda: bridge.rows("jobs.dlq"))
        assert bridge.rows() == [
            ("job-1", "in_progress", "socket"),
            ("job-1", "error", "webhook"),
        ]
        assert bridge.rows("jobs.dlq") == [("job-1", "done", "socket")]
        assert bridge.healed == 1


async def test_job_that_began_and_ended_in_a_gap_is_known(tmp_path: Path) -> None:
    """Both of its webhooks are written, in order; the end heals the gap."""
    async with _bridge(tmp_path) as bridge:
        await bridge.post("job.processing", processing())
        ended = datetime.now(UTC).isoformat()
        await bridge.post("job.completed", completed(completed_at=ended))
        await bridge.released_are(2)
        assert bridge.rows() == [
            ("job-1", "processing", "webhook"),
            ("job-1", "done", "webhook"),
        ]
        assert bridge.healed == 1


async def test_held_webhooks_survive_the_process(tmp_path: Path) -> None:
    """The next one knows the deliveries, and releases them."""
    async with _bridge(tmp_path, grace_period_seconds=3600) as bridge:
        for job in ("job-1", "job-2"):
            await bridge.post("job.failed", failed(job), delivery_id=f"of {job}")
        assert bridge.rows() == []
    async with _bridge(tmp_path) as bridge:
        for job in ("job-1", "job-2"):
            data = failed(job)
            outcome = await bridge.post("job.failed", data, delivery_id=f"of {job}")
            assert outcome == "known"
        await bridge.released_are(2)
        assert {(job, by) for job, _, by in bridge.rows()} == {
            ("job-1", "webhook"),
            ("job-2", "webhook"),
        }
