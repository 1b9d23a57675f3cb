"""The in-memory outbox does what the relay asks, so that it can stand for the real."""

from __future__ import annotations

import inspect
from functools import partial

import trio

from benchmarks.memory_outbox import MemoryOutbox
from bridge.kafka.relay.relay import Relay
from bridge.outbox import Outbox
from bridge.record import (
    Delivered,
    Delivery,
    Healing,
    JobInFlight,
    Record,
    StoredRecord,
)
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    read_back,
    record,
    settings_for,
    until,
)


_Told = list[tuple[str, int, list[StoredRecord]]]


def _outbox(rows: int = 0) -> tuple[MemoryOutbox, _Told]:
    """An outbox whose topics `t` and `t.dlq` have a lane each, and what it told."""
    outbox, told = MemoryOutbox(), _Told()
    outbox.subscribe(told.extend, lambda _: None)
    for topic in ("t", "t.dlq"):
        outbox.open_topic(topic, lambda _: 0, {0: (0, 40)}, "an id").result()
    outbox.offer([record("t", number) for number in range(rows)])
    return outbox, told


def _sequences(outbox: MemoryOutbox, after: int = 0, rows: int = 100) -> list[int]:
    read = outbox.read("t", 0, after, rows, 10**6).result()
    return [row.sequence for row in read]


def test_it_has_the_doors_of_the_outbox_on_disk() -> None:
    """The service is started with either, and calls both alike."""
    # Somebody else's doors: dead letters are sent again from an outbox of their own.
    others = {"replay", "replayed"}
    doors = {name for name in dir(Outbox) if not name.startswith("_")} - others
    outbox = MemoryOutbox()

    assert {name for name in doors if not hasattr(outbox, name)} == set()
    for name in (*doors, "__init__"):
        door = getattr(Outbox, name)
        if callable(door):
            given = list(inspect.signature(getattr(MemoryOutbox, name)).parameters)
            assert given == list(inspect.signature(door).parameters), name


async def test_relay_brings_its_rows_to_kafka_once_and_in_order(topic: Topic) -> None:
    """The relay's plainest case holds on it: once, in order, dense sequences."""
    count = 2_000
    outbox = MemoryOutbox()
    relay = Relay(settings_for(topic), [[topic.name]], outbox)
    # Before Kafka is reached too: these wait without a lane.
    outbox.offer([record(topic.name, number) for number in range(50)])
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, outbox.run))
            nursery.start_soon(relay.run)
            for first in range(50, count, 50):
                numbers = range(first, first + 50)
                outbox.offer([record(topic.name, number) for number in numbers])
                await trio.lowlevel.checkpoint()
            await until(lambda: outbox.statistics.rows == 0)
            relay.drain()
            outbox.stop()
    assert outbox.statistics.acknowledged == count
    check_topic(await read_back(topic), range(count))


def test_rows_wait_without_a_lane_until_their_topic_is_open() -> None:
    """They are claimed in order, before any that comes later."""
    outbox, claimed = MemoryOutbox(), list[tuple[str, int, int]]()
    outbox.subscribe(lambda _: None, claimed.extend)
    outbox.offer([record("t", number) for number in range(3)])
    assert outbox.waiting_topics().result() == {"t"}

    outbox.open_topic("t", lambda _: 4, {4: (0, 10)}).result()
    outbox.offer([record("t", 3)])

    assert claimed == [("t", 4, 3)]
    rows = outbox.read("t", 4, 0, 100, 10**6).result()
    assert [row.value for row in rows] == [b"0 ", b"1 ", b"2 ", b"3 "]
    assert len({row.ce_id for row in rows}) == 4


def test_reading_keeps_both_bounds() -> None:
    """At most so many rows, and no more after so many bytes."""
    outbox, _ = _outbox(5)

    assert _sequences(outbox, after=1, rows=2) == [2, 3]
    assert len(outbox.read("t", 0, 0, 100, 3).result()) == 2


def test_acknowledged_rows_are_told_with_their_offsets() -> None:
    """What is acknowledged no longer waits, and can be asked for."""
    outbox, told = _outbox(4)
    ((_, _, rows),) = told
    outbox.acknowledge("t", 0, 1, 3, 40, 100)

    (state, _) = outbox.lane_states().result()
    assert (state.acknowledged_sequence, state.last_sequence) == (3, 4)
    assert (state.resume_offset, state.resume_ce_id) == (42, rows[2].ce_id)
    assert outbox.statistics.rows == 1
    assert outbox.delivered("t", 0, 1, 100).result() == [
        Delivered(2, rows[1].ce_id, 41),
        Delivered(3, rows[2].ce_id, 42),
    ]


def test_rewound_rows_wait_again_and_are_marked() -> None:
    """Rows behind the place are read again, and the state says up to where."""
    outbox, told = _outbox(4)
    ((_, _, rows),) = told
    outbox.acknowledge("t", 0, 1, 3, 40, 100)

    assert outbox.rewind("t", 0, 1, 40, 0).result() == 2

    (state, _) = outbox.lane_states().result()
    assert (state.acknowledged_sequence, state.resent_sequence) == (1, 3)
    assert (state.resume_offset, state.resume_ce_id) == (40, rows[0].ce_id)
    assert _sequences(outbox, after=1) == [2, 3, 4]
    assert outbox.statistics.rows == 3


def test_refused_row_becomes_a_dead_letter() -> None:
    """Its place in the lane stays empty, the dead letter waits in its own lane."""
    outbox, told = _outbox(2)
    letter: Record = record("t.dlq", 9)

    outbox.refuse("t", 0, 1, letter).result()

    assert _sequences(outbox) == [2]
    topic, _, (row,) = told[-1]
    assert (topic, row.value) == ("t.dlq", letter.value)
    assert outbox.statistics.rows == 2
    outbox.acknowledge("t", 0, 2, 2, 40, 10)
    assert outbox.waiting_topics().result() == {"t.dlq"}


def test_quarantined_row_is_kept_aside() -> None:
    """It waits no more, nor does it come back by a rewind."""
    outbox, _ = _outbox(3)
    outbox.acknowledge("t", 0, 1, 1, 40, 10)

    outbox.quarantine("t", 0, 2, "refused twice").result()
    outbox.acknowledge("t", 0, 3, 3, 41, 10)

    ((row, reason),) = outbox.quarantined
    assert (row.sequence, reason) == (2, "refused twice")
    assert outbox.statistics.rows == 0
    assert outbox.rewind("t", 0, 0, 40, 0).result() == 2
    assert _sequences(outbox) == [1]
    assert _sequences(outbox, after=1) == [3]


def test_webhooks_are_held_once_and_let_go_once() -> None:
    """Its doors for what heals open as the real one's do."""
    outbox, told = _outbox()
    records = [record("t", number) for number in range(4)]
    due = [Delivery(f"{number}", records[number], -number) for number in range(3)]
    assert [outbox.take(one).result() for one in (*due, due[0])] == [True] * 3 + [False]
    held = outbox.held(2).result()
    assert [one.record for one in held] == [records[2], records[1]]
    assert outbox.release(held[0].place, ()).result()
    assert not outbox.release(held[0].place, ()).result()
    job = JobInFlight("0", "processing", None, 1)
    assert outbox.heal(Healing(records[3], job)).result()
    assert [row.value for _, _, rows in told for row in rows] == [b"2 ", b"3 "]
    assert (outbox.statistics.held, outbox.statistics.rows) == (2, 2)


def test_topic_made_anew_begins_at_its_first_offset() -> None:
    """What the old topic had counts as delivered; nothing is sent again."""
    outbox, _ = _outbox(2)
    outbox.acknowledge("t", 0, 1, 2, 40, 10)

    outbox.open_topic("t", lambda _: 0, {0: (0, 0)}, "another id").result()

    (state, _) = outbox.lane_states().result()
    assert (state.resume_offset, state.resume_ce_id) == (0, None)
    assert state.acknowledged_sequence == state.last_sequence == 2
