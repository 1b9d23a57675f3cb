"""Of what heals, too, all that came is what went and what is left."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest

from bridge.events import dead_letter
from bridge.events.record import Record
from bridge.outbox import Outbox
from tests.outbox.adding import ANSWERS, EVENTS, WEBHOOKS, adds_up
from tests.outbox.healing import answer, delivery, open_jobs
from tests.outbox.leaving import FOR_EVER
from tests.outbox.making import MIB, Log, event, eventually, running, source_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


def _unfound(outbox: Outbox) -> int:
    """How many records were there at the start and aren't found yet, told twice."""
    statistics = outbox.statistics
    tallies = statistics.tallies.read().values()
    unfound = statistics.rows + statistics.held - sum(one.waiting for one in tallies)
    there = statistics.rows_at_start + statistics.held_at_start
    assert unfound == there - sum(one.found for one in tallies)
    return unfound


def _letter(record: Record) -> Record:
    return dead_letter.late(record, topic="jobs.dlq", max_bytes=MIB)


def test_it_adds_up_over_restarts_whatever_happens(path: Path) -> None:
    """A thousand things at random, of three processes: nothing is unaccounted for."""
    dice = random.Random(7)
    offered: Counter[tuple[str, str]] = Counter()
    for life in range(3):
        with running(path, keep_jobs_seconds=FOR_EVER) as outbox, Log(outbox):
            offered.clear()
            # Kafka is reached by the last one.
            if life == 2:
                open_jobs(outbox)
            waiting: list[Future[bool]] = []
            for number in range(400):
                job = f"{dice.randrange(60)}"
                status = dice.choice(("processing", "in_progress", "done"))
                waiting += _happen(dice, outbox, offered, job, status, number)
            for future in waiting:
                assert future.exception(10) is None
            eventually(lambda: outbox.drained)
            if life == 2:
                eventually(lambda: outbox.statistics.rows == 0)
            adds_up(outbox.statistics.tallies)
            assert _sums(outbox) == offered
            assert _unfound(outbox) >= 0
    assert outbox.statistics.tallies.read()[WEBHOOKS].found > 0


def _sums(outbox: Outbox) -> Counter[tuple[str, str]]:
    return Counter(
        {
            cell: tally.committed + tally.dropped
            for cell, tally in outbox.statistics.tallies.read().items()
        }
    )


def _happen(  # noqa: PLR0917 - what one event of the world is made of
    dice: random.Random,
    outbox: Outbox,
    offered: Counter[tuple[str, str]],
    job: str,
    status: str,
    number: int,
) -> list[Future[bool]]:
    what = dice.choice(("offer", "take", "heal", "release"))
    if what == "offer":
        outbox.offer([event(job, status, number + 1, progress=f"{number}")])
        offered[EVENTS] += 1
    elif what == "take":
        offered[WEBHOOKS] += 1
        # Some ids come again.
        name = f"{dice.randrange(300)}"
        return [outbox.take(delivery(name, job, status, dice.randrange(100)))]
    elif what == "heal" and (known := outbox.jobs.find(source_of(7), job)):
        offered[ANSWERS] += 1
        return [outbox.heal(answer(known, at_us=number + 1))]
    elif what == "release":
        held = outbox.held(2).result(10)
        return [outbox.release(one.place, ()) for one in held]
    return []
