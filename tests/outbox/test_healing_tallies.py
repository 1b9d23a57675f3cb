"""Of what heals, too, all that came is what went and what is left."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from msgspec import structs

from bridge import dead_letter
from bridge.outbox import Outbox
from bridge.outbox.tallies import Tally
from bridge.record import Record
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


def test_answers_are_published_or_superseded(path: Path) -> None:
    """What isn't needed was committed as what it is."""
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox, Log(outbox):
        open_jobs(outbox)
        outbox.offer([event("a")])
        eventually(lambda: outbox.statistics.acknowledged == 1)
        job = outbox.jobs.of(source_of(7))[0]
        assert outbox.heal(answer(job)).result(10)
        assert not outbox.heal(answer(job)).result(10)
        eventually(lambda: outbox.statistics.acknowledged == 2)
        assert adds_up(outbox.statistics.tallies) == {
            EVENTS: Tally(committed=1, published=1),
            ANSWERS: Tally(committed=2, superseded=1, published=1),
        }


def test_webhooks_wait_until_it_is_known_what_becomes_of_them(path: Path) -> None:
    """One is published, one a dead letter, one not needed, one repeated, one held."""
    with running(path) as outbox, Log(outbox):
        open_jobs(outbox)
        outbox.offer([event("b", "done")])
        eventually(lambda: outbox.statistics.acknowledged == 1)
        letter = delivery("d-3", "c")
        letter = structs.replace(letter, record=_letter(letter.record))
        taken = [delivery("d-1", "a"), delivery("d-2", "b"), letter]
        taken += [delivery("d-4", "d", due_us=2**62), taken[0]]
        for one in taken:
            outbox.take(one).result(10)
        tallies = outbox.statistics.tallies
        assert adds_up(tallies)[WEBHOOKS] == Tally(committed=5, superseded=1, waiting=4)
        for held in outbox.held(3).result(10):
            outbox.release(held.place, ()).result(10)
        eventually(lambda: adds_up(tallies)[WEBHOOKS].published == 1)
        outbox.open_topic("jobs.dlq", lambda _: 0, {0: (0, 0)}, None).result(10)
        eventually(lambda: adds_up(tallies)[WEBHOOKS].dead_lettered == 1)
        assert adds_up(tallies)[WEBHOOKS] == Tally(
            committed=5, superseded=2, waiting=1, published=1, dead_lettered=1
        )
        assert outbox.statistics.held == 1
        assert _unfound(outbox) == 0


def test_webhooks_of_an_earlier_process_are_found_as_they_leave(path: Path) -> None:
    """Those that it left in its lanes are found as all rows are."""
    with running(path) as outbox:
        outbox.offer([event("a", "done"), event("z")])
        for number, job in enumerate("abcd"):
            assert outbox.take(delivery(f"{number}", job)).result(10)
        held = outbox.held(4).result(10)
        assert outbox.release(held[3].place, ()).result(10)
    with running(path) as outbox, Log(outbox):
        statistics = outbox.statistics
        assert (statistics.rows_at_start, statistics.held_at_start) == (3, 3)
        assert outbox.take(delivery("9", "e")).result(10)
        assert adds_up(statistics.tallies) == {WEBHOOKS: Tally(committed=1, waiting=1)}
        assert _unfound(outbox) == 6
        told = [
            outbox.release(one.place, ()).result(10)
            for one in outbox.held(9).result(10)
        ]
        assert told == [False, True, True, True]
        assert adds_up(statistics.tallies) == {
            WEBHOOKS: Tally(committed=1, found=3, superseded=1, waiting=3)
        }
        assert _unfound(outbox) == 3
        open_jobs(outbox)
        eventually(lambda: statistics.rows == 0)
        assert adds_up(statistics.tallies) == {
            EVENTS: Tally(found=2, published=2),
            WEBHOOKS: Tally(committed=1, found=4, superseded=1, published=4),
        }
        assert _unfound(outbox) == 0


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
