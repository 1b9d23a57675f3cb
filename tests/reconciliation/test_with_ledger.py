"""The reconciler and the ledger together: what a reader of `jobs.gaps` reads last."""

from __future__ import annotations

from typing import Any

import trio
from bridge.reconciliation.ports import AskedAccount, Rooms
from bridge.reconciliation.reconciler import Reconciler
from trio.testing import MockClock

from bridge.settings import ReconciliationSettings
from tests.gaps.books import Books
from tests.reconciliation.world import (
    KEEP_JOBS_SECONDS,
    MAX_EVENT_BYTES,
    NOT_FOUND,
    Dryapi,
    Outbox,
    Pace,
    answered,
    make,
    now_us,
    source,
)


class Process:
    """A reconciler and a ledger of one account, with what outlives them."""

    def __init__(self, books: Books, outbox: Outbox, dryapi: Dryapi) -> None:
        self.books = books
        account = AskedAccount("42", source("42"), make("42"), Pace(), dryapi)
        self.reconciler = Reconciler(
            ReconciliationSettings(),
            {"42": source("42")},
            [account],
            Rooms(outbox, outbox, books.ledger),
            max_event_bytes=MAX_EVENT_BYTES,
            keep_jobs_seconds=KEEP_JOBS_SECONDS,
            now_us=now_us,
        )
        books.ledger.follow(self.reconciler.gap_closed)

    def settled(self) -> dict[str, Any]:
        """Give what the last record says."""
        last = self.books.gaps[-1]
        return {
            name: last[name]
            for name in (
                "cause",
                "healed_by_status_endpoint",
                "healed_by_webhook",
                "unknown",
            )
        }


def world() -> tuple[Outbox, Dryapi]:
    """Give jobs that ended, are lost, and go on."""
    outbox, dryapi = Outbox(), Dryapi()
    for name in ("done", "gone", "runs"):
        outbox.hear("42", name, at_us=now_us() - 1_000_000)
    dryapi.answers = {"done": answered("done"), "gone": NOT_FOUND}
    return outbox, dryapi


async def test_gap_is_not_called_unknown_for_ever(
    threads_at_once: None, autojump_clock: MockClock
) -> None:
    """Of a job that nobody knew of for 25 h no more is said, if no gap follows."""
    outbox, dryapi = world()
    books = Books("42", proved_us={"42": now_us() - 2_000_000}, now_us=now_us())
    process = Process(books, outbox, dryapi)
    books.begin("42").subscribed(now_us())
    statistics = books.ledger.statistics
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.reconciler.run)
        await trio.sleep(30)
        for hours, unknown in ((24, 1), (26, 0)):
            books.now_us = now_us() + hours * 3600 * 1_000_000
            await trio.sleep(120)
            assert statistics.unknown == {"42": unknown}
            assert len(books.remembered) == unknown
        nursery.cancel_scope.cancel()


async def test_next_process_goes_on_with_a_gap(
    threads_at_once: None, autojump_clock: MockClock
) -> None:
    """One that ends before its gap is settled leaves it, with what was healed."""
    outbox, dryapi = world()
    books = Books("42", proved_us={"42": now_us() - 2_000_000})
    first = Process(books, outbox, dryapi)
    books.begin("42").subscribed(now_us())
    with trio.move_on_after(1):
        await first.reconciler.run()
    assert dryapi.asked == []
    assert len(books.remembered) == 1

    after = Books(
        "42",
        remembered=books.remembered,
        healed=books.healed,
        proved_us={"42": now_us()},
        was_stopped=True,
    )
    second = Process(after, outbox, dryapi)
    with trio.move_on_after(30):
        await second.reconciler.run()
    assert second.settled() == {
        "cause": "crashed",
        "healed_by_status_endpoint": 1,
        "healed_by_webhook": 0,
        "unknown": 1,
    }
    assert outbox.ended == {"done"}
