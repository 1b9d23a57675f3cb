"""What an answer means for the job that was asked about."""

from __future__ import annotations

import pytest

from bridge.reconciliation.answers import StatusAnswer, event_of
from bridge.reconciliation.ports import AskedAccount, Rooms
from bridge.reconciliation.settlements import Fate
from bridge.reconciliation.statistics import ReconciliationStatistics
from bridge.reconciliation.taking import Taker
from bridge.record import JobInFlight
from tests.reconciliation.world import (
    MAX_EVENT_BYTES,
    NOON_US,
    Dryapi,
    Ledger,
    Outbox,
    Pace,
    answered,
    make,
    source,
)


def told(status: str) -> StatusAnswer:
    """Give what an answer says of the job "a"."""
    return event_of("a", answered(status).body)


async def take(known: str, said: str) -> tuple[Fate | None, Outbox, Taker]:
    """Take an answer about a job of which something else is known."""
    outbox, ledger = Outbox(), Ledger()
    outbox.hear("42", "a", known, None, NOON_US)
    account = AskedAccount("42", source("42"), make("42"), Pace(), Dryapi())
    taker = Taker(
        Rooms(outbox, outbox, ledger),
        ReconciliationStatistics(["42"]),
        MAX_EVENT_BYTES,
        lambda: NOON_US + 7,
    )
    job = JobInFlight("a", known, None, NOON_US)
    return await taker.take(account, job, told(said)), outbox, taker


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("processing", "pending"),
        ("processing", "processing"),
        ("in_progress", "pending"),
        ("in_progress", "processing"),
        ("in_progress", "in_progress"),
    ],
)
async def test_what_is_no_step_forward_is_no_record(known: str, said: str) -> None:
    """The socket told as much already; the job goes on."""
    fate, outbox, _ = await take(known, said)
    assert fate is Fate.GOES_ON
    assert outbox.healings == []


async def test_step_of_a_job_that_runs_on_is_a_record_without_an_end() -> None:
    """It heals no gap: its end is still to come."""
    fate, outbox, taker = await take("pending", "processing")
    assert fate is Fate.GOES_ON
    (healing,) = outbox.healings
    assert healing.record.status == "processing"
    assert healing.gap_ids == ()
    assert taker._statistics.healed == {"42": 0}


@pytest.mark.parametrize("known", ["processing", "in_progress"])
@pytest.mark.parametrize("said", ["done", "error"])
async def test_end_is_a_record(known: str, said: str) -> None:
    """With the time at which it was made, for whatever was known before."""
    fate, outbox, taker = await take(known, said)
    assert fate is Fate.ENDED
    (record,) = outbox.records
    assert (record.status, record.received_at_us) == (said, NOON_US + 7)
    assert taker._statistics.healed == {"42": 1}


async def test_word_that_nobody_knows_is_a_dead_letter() -> None:
    """DryAPI may get new ones; what it means isn't known, nor the job's fate."""
    fate, outbox, taker = await take("in_progress", "cancelled")
    assert fate is Fate.UNKNOWN
    (record,) = outbox.records
    assert (record.topic, record.status) == ("jobs.dlq", None)
    assert taker._statistics.healed == {"42": 0}
