"""What `bridge verify` reports, and what it accepts, on a real Kafka."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
import trio

from tests.conftest import Topic
from tests.consumer.verify.topics import (
    OTHER,
    OUTBOX,
    Sent,
    kinds,
    marker,
    report_on,
    rows,
    surveyed,
    write,
    written,
)
from tests.kit.broker import KafkaBroker
from tests.kit.writer import open_transaction, write_transaction


in_thread = trio.to_thread.run_sync


@pytest.fixture
def compacted(kafka: KafkaBroker, topic: Topic) -> Topic:
    """A topic that its broker may compact."""
    name = f"{topic.name}-compacted"
    kafka.create_topic(name, 1, {"cleanup.policy": "compact"})
    return replace(topic, name=name, partitions=1)


def transact(topic: Topic, records: list[Sent], commit: bool) -> None:  # noqa: FBT001
    """Write records of partition 0 in a transaction, and end it."""
    servers, of_partition = topic.bootstrap_servers, written(records)
    write_transaction(servers, topic.name, of_partition, commit=commit)


async def test_issues_are_named_with_their_offsets(topic: Topic) -> None:
    """A hole, a late record, a duplicate and a conflict each name their place."""
    write(topic, [*rows(1, 2, 5, 6, 4), *rows(6), *rows(7)])
    write(topic, [*rows(1, 2), Sent(2, ce_id="another-9")], partition=1)
    report = await report_on(topic)
    # The same records in both partitions, and so the same ce_id: those that are read
    # last are found.
    assert Counter(kinds(report)) == Counter(
        [
            ("hole", 3, 3, 2),
            ("reordered", 4, 4, 4),
            ("duplicate", 6, 6, 5),
            ("repeated_id", 1, 1, 0),
            ("repeated_id", 2, 2, 1),
            ("conflict", 2, 2, 2),
        ]
    )
    (hole,) = [one for one in report.issues if one.kind == "hole"]
    assert hole.after_offset == 1
    assert report.counts == {
        "hole": 1,
        "reordered": 1,
        "duplicate": 1,
        "repeated_id": 2,
        "conflict": 1,
    }


async def test_refused_records_are_no_holes(topic: Topic) -> None:
    """A dead letter that names the sequence accounts for it; others don't."""
    write(topic, rows(1, 2, 4, 6))
    write(
        topic,
        [
            marker(topic.name, 3),
            marker("another-topic", 5),
            marker(topic.name, 5, outbox=OTHER),
            Sent(9, extra=(("bridge_refused_topic", topic.name.encode()),)),
        ],
        name=topic.dead_letter,
    )
    report = await report_on(topic)
    assert kinds(report) == [("hole", 5, 5, 3)]
    assert report.outboxes[0].refused == 1


async def test_aborted_transactions_are_left_out(topic: Topic) -> None:
    """Their records show with read_uncommitted alone; markers leave no hole."""
    await in_thread(transact, topic, rows(1, 2), True)
    await in_thread(transact, topic, rows(3, 4), False)
    await in_thread(transact, topic, rows(3, 4), True)
    write(topic, rows(5))
    report = await report_on(topic)
    assert report.clean
    assert report.records == 5
    assert report.outboxes[0].compacted == 0
    report = await report_on(topic, isolation="read_uncommitted")
    assert kinds(report) == [("duplicate", 3, 3, 6), ("duplicate", 4, 4, 7)]


async def test_markers_excuse_no_hole(topic: Topic, compacted: Topic) -> None:
    """Where nothing is compacted, offsets without record are no excuse."""
    for each in (topic, compacted):
        await in_thread(transact, each, rows(1, 2), True)
        await in_thread(transact, each, rows(3), False)
        await in_thread(transact, each, rows(4, 5), True)
    report = await report_on(topic)
    assert kinds(report) == [("hole", 3, 3, 5)]
    report = await report_on(compacted)
    assert report.clean
    assert report.outboxes[0].compacted == 1


async def test_an_open_transaction_is_named(topic: Topic) -> None:
    """What stands behind it isn't read, and the end isn't called missing."""
    write(topic, rows(1, 2))
    servers = topic.bootstrap_servers
    with open_transaction(servers, topic.name, written(rows(3))):
        write(topic, rows(4))
        report = await report_on(topic, outboxes=[surveyed(topic.name, 4)])
    assert report.clean
    assert report.outboxes[0].end == "unstable"
    assert any("2 offsets lie behind a transaction" in note for note in report.notes)


async def test_the_outbox_proves_the_end(topic: Topic) -> None:
    """What it holds for delivered must be there; what waits needn't."""
    write(topic, rows(1, 2, 3))
    write(topic, [marker(topic.name, 4)], name=topic.dead_letter)
    report = await report_on(topic, outboxes=[surveyed(topic.name, 4, waiting=7)])
    assert report.clean
    assert (report.outboxes[0].end, report.outboxes[0].waiting) == ("proven", 7)

    claims = [
        surveyed(topic.name, 6, unsendable=[6]),
        surveyed(topic.name, 1, outbox=OTHER),
    ]
    report = await report_on(topic, outboxes=claims)
    assert kinds(report) == [("missing_end", 1, 1, 3), ("missing_end", 5, 5, 3)]
    assert {one.outbox: one.end for one in report.outboxes} == {
        OUTBOX: "missing",
        OTHER: "missing",
    }
    assert any("only in the outbox" in note for note in report.notes)


async def test_a_start_in_between_claims_nothing_of_what_is_before(
    topic: Topic,
) -> None:
    """Sequences before the chosen time are unread, not missing."""
    write(topic, rows(1, 2, 3))
    since_ms = int(time.time() * 1000) + 50
    await trio.sleep(0.1)
    write(topic, rows(4, 6))
    report = await report_on(topic, since_ms=since_ms)
    assert kinds(report) == [("hole", 5, 5, 4)]
    assert (report.records, report.outboxes[0].unread) == (2, 3)


async def test_headers_that_cannot_be_read_are_found(topic: Topic) -> None:
    """A bridge's record without sequence, or with nonsense in it, is an issue."""
    outbox = ("bridge_outbox", OUTBOX.encode())
    odd = [
        Sent(None, extra=(outbox,)),
        Sent(None, extra=(outbox, ("bridge_sequence", b"x"), ("ce_id", b"a-1"))),
        Sent(0),
        Sent(10**30),
    ]
    write(topic, [*rows(1), *odd, *rows(2)])
    report = await report_on(topic)
    assert kinds(report) == [("unreadable", None, None, at) for at in (1, 2, 3, 4)]
