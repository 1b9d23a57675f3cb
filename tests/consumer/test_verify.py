"""The verifier without a broker, beside a naive model that keeps every record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bridge.consumer.verifier import Issue, RefusedSequences, Verifier
from bridge.kafka.scan import Extent, ScannedRecord
from bridge.outbox.survey import SurveyedPartition
from tests.conftest import Topic
from tests.consumer.topics import (
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


def scanned(records: Iterable[Sent | None], *, start: int = 0) -> list[ScannedRecord]:
    """Give records offsets side by side from `start`; None leaves an offset empty."""
    found: list[ScannedRecord] = []
    for offset, record in enumerate(records, start):
        if record is not None:
            found.append((offset, record.key.encode(), dict(record.headers)))
    return found


def verified(
    records: Sequence[Sent | None],
    *,
    start: int = 0,
    log_start: int = 0,
    refused: Sequence[int] = (),
    parts: int = 1,
    may_be_compacted: bool = True,
) -> Verifier:
    """Verify one partition."""
    of = RefusedSequences("jobs")
    of.add(OUTBOX, 0, refused)
    end = start + len(records)
    extents = {0: Extent(log_start, start, end, end)}
    verifier = Verifier(extents, of, may_be_compacted=may_be_compacted)
    found = scanned(records, start=start)
    size = max(1, len(found) // parts)
    for first in range(0, len(found), size):
        chunk = found[first : first + size]
        verifier.add(0, chunk, log_start)
    verifier.conclude()
    return verifier


def counts(issues: Iterable[Issue]) -> Counter[tuple[str, int]]:
    """Count issues by kind and sequence, holes sequence by sequence."""
    return Counter(
        (one.kind.value, sequence)
        for one in issues
        for sequence in range(one.first_sequence or 0, (one.last_sequence or 0) + 1)
    )


class NaiveVerifier:
    """What the verifier should report where no offset is empty: it keeps everything."""

    def __init__(self, refused: Iterable[int]) -> None:
        self.refused = set(refused)
        self.seen: set[int] = set()
        self.identities: set[str] = set()
        self.high = 0
        self.found: Counter[tuple[str, int]] = Counter()

    def add(self, sequence: int, identity: str, *, resent: bool) -> None:
        """Verify one record."""
        known = identity in self.identities
        self.identities.add(identity)
        if not resent:
            self._verify(sequence, known=known)
        self.seen.add(sequence)
        self.high = max(self.high, sequence)

    def _verify(self, sequence: int, *, known: bool) -> None:
        if sequence > self.high:
            if known:
                self.found["repeated_id", sequence] += 1
        elif sequence not in self.seen and sequence not in self.refused:
            self.found["reordered", sequence] += 1
        elif known:
            self.found["duplicate", sequence] += 1
        else:
            self.found["conflict", sequence] += 1

    def conclude(self) -> Counter[tuple[str, int]]:
        """Add the holes."""
        for sequence in range(1, self.high + 1):
            if sequence not in self.seen | self.refused:
                self.found["hole", sequence] += 1
        return self.found


@st.composite
def logs(draw: st.DrawFn) -> list[Sent]:
    """An outbox's log with records lost, moved, doubled and sent again."""
    numbers = list(range(1, draw(st.integers(1, 14)) + 1))
    records = [Sent(number) for number in numbers]
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, max(0, len(records) - 1)))
        match draw(st.sampled_from(["lose", "double", "move", "again", "other", "id"])):
            case "lose" if len(records) > 1:
                del records[place]
            case "double":
                records.insert(draw(st.integers(0, len(records))), records[place])
            case "move":
                records.insert(
                    draw(st.integers(0, len(records) - 1)), records.pop(place)
                )
            case "again":
                first = records[place].sequence or 1
                again = rows(*range(first, len(numbers) + 1), resent=True)
                records += again
            case "other":
                sequence = records[place].sequence
                records.insert(place, Sent(sequence, ce_id=f"new-{len(records)}"))
            case "id":
                records[place] = Sent(records[place].sequence, ce_id="same-1")
    return records


@given(logs(), st.sets(st.integers(1, 14)), st.integers(1, 5))
def test_it_reports_what_a_verifier_with_endless_memory_reports(
    records: list[Sent], refused: set[int], parts: int
) -> None:
    """Issues are exactly those of a model that keeps every record."""
    model = NaiveVerifier(refused)
    for record in records:
        headers = dict(record.headers)
        model.add(
            record.sequence or 0,
            headers["ce_id"].decode(),
            resent="bridge_anomaly" in headers,
        )
    verifier = verified(records, refused=sorted(refused), parts=parts)
    assert counts(verifier.issues()) == model.conclude()


@given(st.lists(st.sampled_from([OUTBOX, OTHER, None]), max_size=60), st.data())
def test_whatever_compaction_takes_it_stays_clean(
    writers: list[str | None], data: st.DataObject
) -> None:
    """Records that left their offsets empty are never an issue."""
    log: list[Sent | None] = []
    counts: Counter[str] = Counter()
    for writer in writers:
        if writer is None:
            log.append(Sent(None))
        else:
            counts[writer] += 1
            log.append(Sent(counts[writer], writer))
    taken = data.draw(st.sets(st.integers(0, max(0, len(log) - 1))))
    start = data.draw(st.integers(0, len(log)))
    left = [None if at in taken else record for at, record in enumerate(log)][start:]
    verifier = verified(left, start=start, log_start=start)
    assert not verifier.issues()
    for report in verifier.outboxes():
        lost = report.last_sequence - report.records
        assert report.trimmed + report.compacted == lost
        assert start or not report.trimmed


@given(st.integers(1, 30), st.sets(st.integers(1, 30)), st.integers(0, 4))
def test_losses_beyond_the_empty_offsets_are_holes(
    count: int, lost: set[int], empty: int
) -> None:
    """As many sequences are holes as offsets can't account for."""
    lost = {number for number in lost if number <= count}
    kept = [Sent(number) for number in range(1, count + 1) if number not in lost]
    verifier = verified([*[None] * empty, *kept, Sent(count + 1)])
    first = kept[0].sequence or 0 if kept else count + 1
    head = len([number for number in lost if number < first])
    assert verifier.counts.total() == len(lost) - min(empty, head)


def test_what_goes_while_it_is_read_is_trimmed_and_no_more() -> None:
    """Offsets below the log's new start excuse as many sequences."""
    for missing, found in ((3, []), (4, [("hole", 1)])):
        extents = {0: Extent(0, 0, 9, 9)}
        of = RefusedSequences("jobs")
        verifier = Verifier(extents, of, may_be_compacted=False)
        verifier.add(0, scanned(rows(1, 2)), 0)
        verifier.add(0, scanned(rows(3 + missing), start=5), 5)
        verifier.conclude()
        assert [(one.kind.value, one.count) for one in verifier.issues()] == found
        (outbox,) = verifier.outboxes()
        assert (outbox.trimmed, outbox.compacted) == (3, 0)


def test_a_made_up_outbox_hides_no_other() -> None:
    """A name that no bridge has is left out, and the report says so."""
    verifier = verified([Sent(1, "x" * 100), *rows(1, 3)])
    assert counts(verifier.issues()) == {("hole", 2): 1}
    assert not verifier.has_all_outboxes
    verifier.compare("x" * 100, SurveyedPartition("jobs", 0, 1, 0, []))


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
    """Their records show only with read_uncommitted; markers leave no hole."""
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
    """Where nothing is compacted, offsets without record don't excuse it."""
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
    """What follows it isn't read, and the end isn't called missing."""
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
