"""A webhook without room is refused at once, and what heals waits for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bridge.errors import OutboxFullError
from bridge.outbox.values import Spent
from tests.outbox.healing import answer, delivery, open_jobs
from tests.outbox.leaving import FOR_EVER, standing
from tests.outbox.making import (
    MIB,
    Log,
    event,
    eventually,
    numbered,
    running,
    source_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


# -- Without room --------------------------------------------------------------


def test_a_full_outbox_refuses_webhooks_at_once(path: Path) -> None:
    """What it holds can leave, and with room it takes what comes again."""
    with (
        running(path, max_bytes=2 * MIB, keep_jobs_seconds=FOR_EVER) as outbox,
        Log(outbox, delivers=False) as log,
    ):
        open_jobs(outbox)
        assert outbox.take(delivery("held", "held")).result(10)
        count = 0
        while not outbox.statistics.full:
            outbox.offer(numbered(count, 20, size=500))
            count += 20
            eventually(lambda: outbox.drained or outbox.statistics.full)
        for number in range(20):
            begun = time.monotonic()
            refused = outbox.take(delivery("d", "d")).exception(10)
            assert isinstance(refused, OutboxFullError)
            assert time.monotonic() - begun < 2
            assert f"{refused}" == f"outbox.max_bytes is {2 * MIB}", number
        assert len(outbox.held(9).result(10)) == 1
        committed = outbox.statistics.committed
        eventually(lambda: len(log.rows["jobs", 0]) == committed)
        log.delivers = True
        outbox.acknowledge("jobs", 0, 1, committed, 0, 500 * committed)
        eventually(lambda: outbox.drained and outbox.statistics.rows == 0)
        assert outbox.take(delivery("d", "d")).result(10)
        (first, _) = outbox.held(9).result(10)
        assert outbox.release(first.place, ()).result(10)


# -- Many, none and too late ---------------------------------------------------


def test_what_comes_after_the_end_is_cancelled(path: Path) -> None:
    """What came before it is done."""
    with standing(path) as outbox:
        outbox.offer([event("a")])
        early = outbox.take(delivery("1", "a"))
        released = outbox.release(1, ())
        outbox.spend({"7": Spent(1, 2)})
        outbox.stop()
        outbox.run()
        assert early.result(0)
        assert not released.result(0)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        late = [
            outbox.take(delivery("2", "a")),
            outbox.heal(answer(job)),
            outbox.release(1, ()),
        ]
        assert all(future.cancelled() for future in late)
        assert outbox.held(9).cancelled()
        # A stop waits for none of those that are held.
        assert outbox.drained
    with standing(path) as outbox:
        assert outbox.memory.spent == {"7": Spent(1, 2)}
        assert outbox.memory.was_stopped
        assert outbox.statistics.held_at_start == 1
