"""Up to when an account was heard is written no sooner than what was read till then."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.outbox import commit
from bridge.outbox.buffer import Buffer
from bridge.outbox.proofs import Proofs
from bridge.outbox.store import Store
from bridge.record import LeftGap, Memory
from tests.outbox.leaving import NOTHING, found, gap_value, refuse, standing
from tests.outbox.making import (
    MIB,
    event,
    eventually,
    record,
    running,
    source_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


def test_no_event_is_a_proof(path: Path) -> None:
    """It was sent before it was read, and may have waited: its session knows by it."""
    with running(path) as outbox:
        outbox.prove({source_of(7): 3})
        outbox.offer([event("a", at_us=5), event("b", at_us=9, account=8)])
        outbox.keep(record("7", topic="jobs.gaps"))
        eventually(lambda: outbox.drained and outbox.statistics.kept == 1)
    assert found(path).proved_us == {source_of(7): 3}


def test_a_proof_is_written_without_any_event(path: Path) -> None:
    """A quiet hour is proved by pongs alone."""
    with running(path) as outbox:
        outbox.prove({source_of(7): 50, source_of(8): 60})
        eventually(
            lambda: found(path).proved_us == {source_of(7): 50, source_of(8): 60}
        )
        outbox.prove({source_of(7): 70})
        eventually(lambda: found(path).proved_us[source_of(7)] == 70)


def test_the_last_proof_counts(path: Path) -> None:
    """A clock was set back, or a subscription was deaf: an earlier one is the truth."""
    with standing(path) as outbox:
        outbox.prove({source_of(7): 50, source_of(8): 50})
        outbox.prove({source_of(7): 40})
        outbox._writer._round()
        assert found(path).proved_us == {source_of(7): 40, source_of(8): 50}
    with running(path) as outbox:
        outbox.prove({source_of(8): 45})
    assert found(path).proved_us == {source_of(7): 40, source_of(8): 45}


def test_a_proof_doesn_t_overtake_an_event(path: Path) -> None:
    """What had been offered before is on disk before the proof, or with it."""
    with standing(path) as outbox:
        outbox.offer([event(f"{n}", at_us=n) for n in range(1, 2600)])
        outbox.prove({source_of(7): 10_000})
        outbox.offer([event("later", at_us=20_000)])
        writer = outbox._writer
        # A commit takes 2,000 rows at most.
        writer._round()
        assert found(path).proved_us == {}
        writer._round()
        assert found(path).proved_us == {source_of(7): 10_000}
        outbox.offer([event("x", at_us=20_001)])
        outbox.prove({source_of(7): 30_000})
        assert found(path).proved_us == {source_of(7): 10_000}
        writer._round()
        assert found(path).proved_us == {source_of(7): 30_000}


def test_a_proof_waits_for_what_a_commit_leaves_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room for some events only, the others are still in memory."""
    with standing(path) as outbox:
        outbox.offer([event(f"{n}", at_us=n) for n in (1, 2, 3)])
        outbox.prove({source_of(7): 100})
        writer = outbox._writer
        monkeypatch.setattr(writer._room, "fit", lambda *_: 1)
        for proofs in ({}, {}, {source_of(7): 100}):
            writer._round()
            assert found(path).proved_us == proofs


def test_a_proof_leaves_no_gap_behind(path: Path) -> None:
    """More gaps than a commit takes: killed on the way, the proof before them holds."""
    with standing(path) as outbox:
        outbox.prove({source_of(7): 1})
        writer = outbox._writer
        writer._round()
        for number in range(250):
            gap = record("7", gap_value(number), topic="jobs.gaps")
            outbox.keep(gap, opens=f"{number}")
        outbox.offer([event("a", at_us=5)])
        outbox.prove({source_of(7): 10})
        for gaps, proved_us in ((100, 1), (200, 1), (250, 10)):
            writer._round()
            memory = found(path)
            assert len(memory.left_gaps) == gaps
            assert memory.proved_us == {source_of(7): proved_us}


def test_a_proof_waits_for_a_gap_that_a_full_disk_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else the disk takes then mustn't say that all is known."""
    with standing(path) as outbox:
        outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
        outbox.prove({source_of(7): 10})
        monkeypatch.setattr(Store, "append", refuse)
        outbox._writer._round()
        assert found(path) == NOTHING
        monkeypatch.undo()
        outbox._writer._round()
        assert found(path) == Memory(
            {source_of(7): 10}, False, (LeftGap(gap_value(1)),)
        )


def test_a_proof_waits_for_a_gap_that_was_told_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread tells of it, and proves, after gap records were taken."""
    with standing(path) as outbox:
        writer = outbox._writer
        has_room = writer._has_room

        def tell(_: object) -> bool:
            outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
            outbox.prove({source_of(7): 10})
            return has_room

        monkeypatch.setattr(type(writer), "_has_room", property(tell))
        writer._round()
        monkeypatch.undo()
        assert found(path) == NOTHING
        writer._round()
        assert found(path).left_gaps[0] == LeftGap(gap_value(1))
        assert found(path).proved_us == {source_of(7): 10}


def test_a_stop_writes_proofs_that_wait_behind_others(path: Path) -> None:
    """The last one counts: the gap of the next start is no longer than it must be."""
    with standing(path) as outbox:
        inbox, writer = outbox._inbox, outbox._writer
        outbox.offer([event("a", at_us=1)])
        outbox.prove({source_of(7): 10, source_of(8): 9})
        assert inbox.proofs.due(0) == {}
        outbox.offer([event("b", at_us=11)])
        outbox.prove({source_of(7): 20})
        assert inbox.proofs.due(0) == {}
        for _ in range(2):
            _, weight = inbox.buffer.take(1, MIB)
            inbox.buffer.release(weight)
        commit.say_goodbye(writer._store, inbox, notes=True)
    assert found(path) == Memory({source_of(7): 20, source_of(8): 9}, True, ())


def test_proofs_of_hours_on_a_full_disk_are_put_together() -> None:
    """Each waits for what was offered before it, and there are never many."""
    buffer = Buffer(10 * MIB, lambda _: None)
    proofs = Proofs(buffer)
    buffer.put([event("a")])
    proofs.lay({"a": 1})
    buffer.put([event("b")])
    assert proofs.due(0) == {}
    for us in range(2, 1000):
        proofs.lay({"a": us, "b": 2 * us})
        assert proofs.due(0) == {}
    records, weight = buffer.take(1, MIB)
    assert proofs.due(weight) == {"a": 1}
    proofs.written()
    buffer.release(weight)
    assert proofs.due(0) == {}
    records, weight = buffer.take(9, MIB)
    assert len(records) == 1
    # Not written yet: it is due until it is.
    for _ in range(2):
        assert proofs.due(weight) == {"a": 999, "b": 1998}
    proofs.written()
    assert proofs.due(weight) == {}


def test_a_proof_doesn_t_wait_for_what_was_given_up() -> None:
    """What found no room is a gap of its own; the buffer is empty all the same."""
    buffer = Buffer(4 * len(event("a").value), lambda _: None)
    proofs = Proofs(buffer)
    buffer.put([event("a")])
    proofs.lay({"a": 1})
    # The newest record makes room for the end of a job: the mark lies too far.
    with buffer._lock:
        buffer._runs.pop()
        buffer._put_bytes = 0
    assert proofs.due(0) == {"a": 1}
