"""
A transaction of all that has gathered, in the one order in which it holds.

And the first one of a process and its last one. What goes with each, and what is
done when it fails, is decided in `writer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from bridge.errors import OutboxFullError
from bridge.events.record import Record
from bridge.outbox.buffer import total_weight
from bridge.outbox.inbox import Acknowledged, Inbox, Kept
from bridge.outbox.remembered import Remembered
from bridge.outbox.room import Room
from bridge.outbox.store import Placed, Store


__all__ = ["Committed", "Plan", "commit", "say_goodbye", "settle_in", "write_gaps"]


class Plan(msgspec.Struct, frozen=True):
    """
    What one transaction is to do beside what never waits: acknowledge, change, trim.

    Attributes:
        records: What it writes of the buffer.
        in_hands: What they weigh if nothing is held back of what was taken, else 0.
        kept: What it writes of the gap records.
        claims: Rows that are given lanes, at most.
        claim_bytes: The same in bytes.
        takes: How many webhooks it holds.
        healings: How many of the records that heal it looks at, behind all others.
        notes: Whether the table of jobs may be written now: not where there is no room,
            since what is reserved is for what makes some.
        is_last_resort: Whether only what makes room matters.
    """

    records: Sequence[Record] = ()
    in_hands: int = 0
    kept: Sequence[Kept] = ()
    claims: int = 0
    claim_bytes: int = 0
    takes: int = 0
    healings: int = 0
    notes: bool = False
    is_last_resort: bool = False

    @property
    def is_synced(self) -> bool:
        """
        Whether a loss of power may take nothing of it.

        A webhook that was answered doesn't come again. One that has left must not be
        found once more, nor a job that was healed be asked about, with its last record
        in Kafka already.
        """
        return bool(self.takes or self.healings)

    def parts(self) -> Iterator[Plan]:
        """Give the plan, and less and less of it for a disk that refuses it."""
        yield self
        # Nothing has to be refused for the sake of a webhook: it comes again.
        without = msgspec.structs.replace(self, takes=0)
        if self.takes:
            yield without
        # Where rows are refused, the rest goes on and makes room; where a claim is
        # refused as well, acknowledgements alone do. What has reserved room goes with
        # as much as it can.
        without = msgspec.structs.replace(
            without, records=(), in_hands=0, healings=0, notes=False
        )
        if self.records or self.healings:
            yield without
        if self.kept:
            yield msgspec.structs.replace(without, claims=0)
            yield msgspec.structs.replace(without, kept=())
        yield Plan(is_last_resort=True)


class Committed(msgspec.Struct, frozen=True):
    """
    What it did.

    Attributes:
        runs: What was acknowledged.
        results: What was asked for; to be answered now.
        taken: The same of webhooks.
        healed: The same of records that heal.
        placed: New rows with a lane.
        claimed: Lanes that got rows.
        trimmed: How many rows went.
        moved: How many rows came, moved or went.
    """

    runs: list[Acknowledged]
    results: list[Any]
    taken: list[Any]
    healed: list[Any]
    placed: list[Placed]
    claimed: list[tuple[str, int, int]]
    trimmed: int
    moved: int


def commit(
    store: Store, inbox: Inbox, plan: Plan, trim: Callable[[], int]
) -> Committed:
    """
    Do it, all or nothing, and take off the inbox what was done.

    Args:
        store: The file.
        inbox: What has gathered; its requests are still to be answered.
        plan: What is done of it.
        trim: Lets rows go that Kafka has.

    Raises:
        OutboxFullError: The same may succeed later; all is undone.
        OutboxDamagedError: It will not; all is undone.
    """
    # The other threads only append to these: what is counted here stays. A change
    # comes after all acknowledgements that were there before it.
    changes = len(inbox.changes)
    runs = list(inbox.acknowledged)
    records = plan.records
    if plan.kept:
        records = [*records, *[kept.record for kept in plan.kept]]
    proofs = _due(inbox, plan)
    spent = {} if plan.is_last_resort else inbox.spending.due()
    remembered = store.remembered
    with store.transaction(
        is_last_resort=plan.is_last_resort, is_synced=plan.is_synced
    ):
        if plan.notes:
            store.job_table.write_if_due()
        remembered.note_start()
        for topic, partition, run, envelopes in runs:
            store.acknowledge(topic, partition, run, envelopes)
        results = inbox.changes.work(store, changes)
        taken = inbox.takes.work(store, plan.takes)
        claimed = store.claim(plan.claims, plan.claim_bytes) if plan.claims else []
        trimmed = trim()
        # Now, when all rows are where they stay: new ones are noted later on.
        if records:
            store.added += store.append(records)
        if plan.kept:
            _remember_gaps(remembered, plan.kept)
        # Behind all that was offered before them, and behind the gaps that they heal.
        healed = inbox.healings.work(store, plan.healings)
        remembered.prove(proofs)
        remembered.spend(spent)
    for _ in runs:
        inbox.acknowledged.popleft()
    for _ in plan.kept:
        inbox.reserved.popleft()
    if proofs:
        inbox.proofs.written()
    inbox.spending.written(spent)
    moved = len(records) + len(claimed) + trimmed
    return Committed(runs, results, taken, healed, store.added, claimed, trimmed, moved)


def _due(inbox: Inbox, plan: Plan) -> Mapping[str, int]:
    """Give proofs that hold with this transaction: no gap is left behind them."""
    proofs = inbox.proofs.due(plan.in_hands)
    # Looked at afterwards: a gap that was told before a proof is seen with it. Killed
    # between the two, nobody would know of that gap any more.
    return proofs if len(inbox.reserved) <= len(plan.kept) else {}


def _remember_gaps(remembered: Remembered, all_kept: Sequence[Kept]) -> None:
    for kept in all_kept:
        if kept.opens is not None:
            remembered.open_gap(kept.opens, kept.record.value)
        if kept.closes is not None:
            remembered.close_gap(kept.closes)


def settle_in(store: Store, *, notes: bool) -> None:
    """
    Begin to use a file: write what was read of it anew.

    That its process has started stands in the first commit: one that ends before,
    for a setting that is wrong, leaves no trace of its own.

    Args:
        store: The file. What it refuses here goes with the first commit.
        notes: As in `Plan`.

    Raises:
        OutboxDamagedError: The file can't be used.
    """
    if notes:
        with suppress(OutboxFullError):
            _note_all(store)


def write_gaps(store: Store, inbox: Inbox, room: Room) -> int:
    """
    Write all gap records that wait, and nothing else.

    Before a salvage, which may take minutes and seldom finds everything: should the
    process be killed meanwhile, the gap of what is lost has to be known.

    Args:
        store: The file. What it refuses here goes with the first commit.
        inbox: What has gathered.
        room: Told of what is written.

    Returns:
        How many.

    Raises:
        OutboxDamagedError: The file can't be used.
    """
    all_kept = list(inbox.reserved)
    if not all_kept:
        return 0
    records = [kept.record for kept in all_kept]
    try:
        with store.transaction():
            store.append(records)
            _remember_gaps(store.remembered, all_kept)
    except OutboxFullError:
        return 0
    for _ in all_kept:
        inbox.reserved.popleft()
    room.spend(total_weight(records))
    return len(all_kept)


def say_goodbye(store: Store, inbox: Inbox, *, notes: bool) -> None:
    """
    Write that the process ends in order; what it had to say must be written before.

    Where gap records found no room, or this finds none, it looks like a crash: nothing
    that was proved late counts then, and no gap is taken for shorter than it is.

    Args:
        store: The file.
        inbox: What has been laid down for it.
        notes: As in `Plan`.

    Raises:
        OutboxDamagedError: The file can't be used.
    """
    proofs = inbox.proofs.all_due()
    # Looked at afterwards, as in `_due`.
    if inbox.reserved:
        return
    with suppress(OutboxFullError):
        if notes:
            _note_all(store)
        with store.transaction():
            store.remembered.prove(proofs)
            store.remembered.note_stop()


def _note_all(store: Store) -> None:
    while store.job_table.has_more:
        with store.transaction():
            store.job_table.write_part()
