"""What one process leaves to the next: proofs, open gaps, and how it ended."""

from __future__ import annotations

import os
import sqlite3  # noqa: TID251 - looks into the file, damages it
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bridge.errors import OutboxFullError
from bridge.outbox import Outbox, OutboxDirectory, commit
from bridge.outbox.buffer import Buffer
from bridge.outbox.proofs import Proofs
from bridge.outbox.store import Store
from bridge.record import Memory
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    MIB,
    event,
    eventually,
    fresh,
    record,
    running,
    source_of,
    spread,
)


# The events of these tests are of 1970.
_FOR_EVER = 1e11

_NOTHING = Memory(proved_us={}, was_stopped=False, open_gaps=())


@contextmanager
def _standing(path: Path) -> Iterator[Outbox]:
    """An outbox whose thread doesn't run; what it holds is lost, as by a crash."""
    with OutboxDirectory(path) as directory:
        limits = OutboxSettings(dir=path, keep_jobs_seconds=_FOR_EVER)
        outbox = Outbox(directory, limits)
        try:
            yield outbox
        finally:
            outbox._writer._files.opened.connection.close()


def _found(path: Path) -> Memory:
    """Read what another process would find now; nothing is changed by that."""
    copies = path.with_name(f"{path.name}-copy-{os.urandom(4).hex()}")
    copies.mkdir()
    for name in ("outbox.sqlite3", "outbox.sqlite3-wal"):
        if (path / name).exists():
            (copies / name).write_bytes((path / name).read_bytes())
    with _standing(copies) as outbox:
        return outbox.memory


def _gap(number: int) -> bytes:
    return b'{"gap_id":"%d"}' % number


def _refuse(*_: object) -> None:
    raise OutboxFullError("no room")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


# -- How it ended --------------------------------------------------------------


def test_a_new_outbox_remembers_nothing(path: Path) -> None:
    """Nobody was here before."""
    with _standing(path) as outbox:
        assert outbox.memory == _NOTHING


def test_a_stop_is_told_until_somebody_works_again(path: Path) -> None:
    """The process after a stop finds it; the one after a crash doesn't."""
    with running(path) as outbox:
        assert not outbox.memory.was_stopped
    assert _found(path).was_stopped
    # A process that ends before it works, for want of a setting, leaves no trace.
    with _standing(path) as outbox:
        assert outbox.memory.was_stopped
    with running(path) as outbox:
        assert outbox.memory.was_stopped
        eventually(lambda: not _found(path).was_stopped)
    assert _found(path).was_stopped


def test_a_stop_that_could_not_write_all_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap record that found no room must not look like an orderly end."""
    with running(path) as outbox:
        eventually(lambda: outbox.statistics.last_beat > 0)
        monkeypatch.setattr(Store, "append", _refuse)
        outbox.keep(record("7", topic="jobs.gaps"))
    monkeypatch.undo()
    assert not _found(path).was_stopped


# -- Proofs --------------------------------------------------------------------


def test_no_event_is_a_proof(path: Path) -> None:
    """It was sent before it was read, and may have waited: its session knows by it."""
    with running(path) as outbox:
        outbox.prove({source_of(7): 3})
        outbox.offer([event("a", at_us=5), event("b", at_us=9, account=8)])
        outbox.keep(record("7", topic="jobs.gaps"))
        eventually(lambda: outbox.drained and outbox.statistics.kept == 1)
    assert _found(path).proved_us == {source_of(7): 3}


def test_a_proof_is_written_without_any_event(path: Path) -> None:
    """A quiet hour is proved by pongs alone."""
    with running(path) as outbox:
        outbox.prove({source_of(7): 50, source_of(8): 60})
        eventually(
            lambda: _found(path).proved_us == {source_of(7): 50, source_of(8): 60}
        )
        outbox.prove({source_of(7): 70})
        eventually(lambda: _found(path).proved_us[source_of(7)] == 70)


def test_the_last_proof_counts(path: Path) -> None:
    """A clock was set back, or a subscription was deaf: an earlier one is the truth."""
    with _standing(path) as outbox:
        outbox.prove({source_of(7): 50, source_of(8): 50})
        outbox.prove({source_of(7): 40})
        outbox._writer._round()
        assert _found(path).proved_us == {source_of(7): 40, source_of(8): 50}
    with running(path) as outbox:
        outbox.prove({source_of(8): 45})
    assert _found(path).proved_us == {source_of(7): 40, source_of(8): 45}


def test_a_proof_doesn_t_overtake_an_event(path: Path) -> None:
    """What had been offered before is on disk before the proof, or with it."""
    with _standing(path) as outbox:
        outbox.offer([event(f"{n}", at_us=n) for n in range(1, 2600)])
        outbox.prove({source_of(7): 10_000})
        outbox.offer([event("later", at_us=20_000)])
        writer = outbox._writer
        # A commit takes 2,000 rows at most.
        writer._round()
        assert _found(path).proved_us == {}
        writer._round()
        assert _found(path).proved_us == {source_of(7): 10_000}
        outbox.offer([event("x", at_us=20_001)])
        outbox.prove({source_of(7): 30_000})
        assert _found(path).proved_us == {source_of(7): 10_000}
        writer._round()
        assert _found(path).proved_us == {source_of(7): 30_000}


def test_a_proof_waits_for_what_a_commit_leaves_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room for some events only, the others are still in memory."""
    with _standing(path) as outbox:
        outbox.offer([event(f"{n}", at_us=n) for n in (1, 2, 3)])
        outbox.prove({source_of(7): 100})
        writer = outbox._writer
        monkeypatch.setattr(writer._room, "fit", lambda *_: 1)
        for proofs in ({}, {}, {source_of(7): 100}):
            writer._round()
            assert _found(path).proved_us == proofs


def test_a_proof_leaves_no_gap_behind(path: Path) -> None:
    """More gaps than a commit takes: killed on the way, the proof before them holds."""
    with _standing(path) as outbox:
        outbox.prove({source_of(7): 1})
        writer = outbox._writer
        writer._round()
        for number in range(250):
            gap = record("7", _gap(number), topic="jobs.gaps")
            outbox.keep(gap, opens=f"{number}")
        outbox.offer([event("a", at_us=5)])
        outbox.prove({source_of(7): 10})
        for gaps, proved_us in ((100, 1), (200, 1), (250, 10)):
            writer._round()
            memory = _found(path)
            assert len(memory.open_gaps) == gaps
            assert memory.proved_us == {source_of(7): proved_us}


def test_a_proof_waits_for_a_gap_that_a_full_disk_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else the disk takes then mustn't say that all is known."""
    with _standing(path) as outbox:
        outbox.keep(record("7", _gap(1), topic="jobs.gaps"), opens="1")
        outbox.prove({source_of(7): 10})
        monkeypatch.setattr(Store, "append", _refuse)
        outbox._writer._round()
        assert _found(path) == _NOTHING
        monkeypatch.undo()
        outbox._writer._round()
        assert _found(path) == Memory({source_of(7): 10}, False, (_gap(1),))


def test_a_proof_waits_for_a_gap_that_was_told_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other thread tells of it, and proves, after gap records were taken."""
    with _standing(path) as outbox:
        writer = outbox._writer
        has_room = writer._has_room

        def tell(_: object) -> bool:
            outbox.keep(record("7", _gap(1), topic="jobs.gaps"), opens="1")
            outbox.prove({source_of(7): 10})
            return has_room

        monkeypatch.setattr(type(writer), "_has_room", property(tell))
        writer._round()
        monkeypatch.undo()
        assert _found(path) == _NOTHING
        writer._round()
        assert _found(path).open_gaps[0] == _gap(1)
        assert _found(path).proved_us == {source_of(7): 10}


def test_a_stop_writes_proofs_that_wait_behind_others(path: Path) -> None:
    """The last one counts: the gap of the next start is no longer than it must be."""
    with _standing(path) as outbox:
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
    assert _found(path) == Memory({source_of(7): 20, source_of(8): 9}, True, ())


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


# -- Gaps ----------------------------------------------------------------------


def test_open_gaps_are_remembered_in_the_order_of_opening(path: Path) -> None:
    """Opened with one record, closed with another, each with its transaction."""
    with running(path) as outbox:
        for number in (3, 1, 2):
            gap = record("7", _gap(number), topic="jobs.gaps")
            outbox.keep(gap, opens=f"{number}")
        outbox.keep(record("7", b"closed", topic="jobs.gaps"), closes="1")
        outbox.keep(record("7", b"unknown", topic="jobs.gaps"), closes="9")
        outbox.keep(record("7", b"once", topic="jobs.gaps"))
        eventually(lambda: outbox.statistics.kept == 6)
        assert _found(path).open_gaps == (_gap(3), _gap(2))
    with running(path) as outbox:
        assert outbox.memory.open_gaps == (_gap(3), _gap(2))
        outbox.keep(record("7", b"closed", topic="jobs.gaps"), closes="3")
    assert _found(path).open_gaps == (_gap(2),)


def test_a_gap_is_open_only_with_its_record(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What couldn't be committed is neither on its way to Kafka nor remembered."""
    with _standing(path) as outbox:
        writer = outbox._writer
        outbox.keep(record("7", _gap(1), topic="jobs.gaps"), opens="1")
        remembered = writer._store.remembered
        open_gap = remembered.open_gap

        def fail(gap_id: str, value: bytes) -> None:
            open_gap(gap_id, value)
            raise OutboxFullError("no room")

        monkeypatch.setattr(remembered, "open_gap", fail)
        writer._round()
        assert outbox.statistics.kept == 0
        assert remembered.gaps == {}
        monkeypatch.undo()
        writer._round()
        assert outbox.statistics.kept == 1
        assert remembered.gaps == {"1": _gap(1)}


# -- Another file --------------------------------------------------------------


def _fill(path: Path) -> None:
    with running(path, keep_jobs_seconds=_FOR_EVER) as outbox:
        outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)
        outbox.offer([event(f"{n}", at_us=n, account=7 + n % 2) for n in range(1, 200)])
        outbox.keep(record("7", _gap(1), topic="jobs.gaps"), opens="1")
        outbox.prove({source_of(7): 10_000, source_of(8): 199})


def _find_damage(store: Store) -> None:
    # Taken back with all that the transaction did.
    store.remembered.prove({source_of(7): 99_999})
    raise sqlite3.DatabaseError("a page is malformed")


def _check(outbox: Outbox) -> None:
    assert outbox.jobs.count(source_of(7)) == 99
    assert outbox.jobs.count(source_of(8)) == 100
    memory = outbox.memory
    assert memory.proved_us == {source_of(7): 10_000, source_of(8): 199}
    assert memory.open_gaps == (_gap(1),)


def test_a_new_file_remembers_what_the_damaged_one_did(path: Path) -> None:
    """Found at the start: tables that can be read are read, at once."""
    _fill(path)
    database = path / "outbox.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        # The table of acknowledged runs, which every start reads.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'quarantine'"
        )
    with _standing(path) as outbox:
        _check(outbox)
        assert list(path.glob("*.damaged-*.to-salvage"))
    # Killed before anything of the damaged file was salvaged: it is known still.
    with _standing(path) as outbox:
        _check(outbox)
    with running(path, keep_jobs_seconds=_FOR_EVER) as outbox:
        _check(outbox)
        eventually(lambda: outbox.statistics.rows == 199 + 1)
        assert not list(path.glob("*.damaged-*.to-salvage"))
    with _standing(path) as outbox:
        _check(outbox)


def test_what_can_t_be_read_is_not_remembered(path: Path) -> None:
    """A file of random bytes leaves nothing; the outbox works all the same."""
    _fill(path)
    (path / "outbox.sqlite3").write_bytes(os.urandom(50_000))
    with running(path, keep_jobs_seconds=_FOR_EVER) as outbox:
        assert outbox.memory == _NOTHING
        assert outbox.jobs.of(source_of(7)) == []
        outbox.prove({source_of(7): 5})
    assert _found(path).proved_us == {source_of(7): 5}


def test_a_file_that_fails_leaves_its_memory_to_the_next(path: Path) -> None:
    """Found while it works: what is in memory goes into the new file."""
    _fill(path)
    with running(path, keep_jobs_seconds=_FOR_EVER) as outbox:
        outbox.offer([event("1", "done", 300, 8), event("new", at_us=301, account=8)])
        outbox.prove({source_of(8): 301})
        eventually(lambda: outbox.drained)
        replaced: list[bool] = []
        outbox.subscribe(lambda _: None, lambda _: None, lambda: replaced.append(True))
        outbox._change(_find_damage)
        eventually(lambda: bool(replaced))
        assert outbox.jobs.count(source_of(7)) == 99
        assert outbox.jobs.count(source_of(8)) == 100
        memory = _found(path)
        assert memory.proved_us == {source_of(7): 10_000, source_of(8): 301}
        assert memory.open_gaps == (_gap(1),)
    with _standing(path) as outbox:
        names = {job.request_id for job in outbox.jobs.of(source_of(8))}
        assert len(names) == 100
        assert {"new", "3"} <= names
        assert "1" not in names


# -- A crash -------------------------------------------------------------------

_DYING = """
import os, sys
from pathlib import Path
from tests.outbox.making import event, eventually, record, running, source_of

with running(Path(sys.argv[1]), keep_jobs_seconds=1e11) as outbox:
    outbox.offer([event(f"{n}", at_us=n) for n in range(1, 101)])
    outbox.keep(record("7", b"gap", topic="jobs.gaps"), opens="1")
    outbox.prove({source_of(7): 1000})
    eventually(lambda: outbox.drained and outbox.statistics.kept == 1)
    outbox.offer([event(f"{n}", "done", n + 1000) for n in range(1, 51)])
    outbox.prove({source_of(7): 1050})
    proved = outbox._writer._store.remembered.proved_us
    eventually(lambda: outbox.drained and proved[source_of(7)] == 1050)
    os._exit(9)
"""


def test_all_of_it_outlives_a_process_that_dies(path: Path) -> None:
    """Jobs, proofs and gaps are those of what was committed."""
    died = subprocess.run(
        [sys.executable, "-c", _DYING, str(path)],
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=30,
    )
    assert died.returncode == 9
    with _standing(path) as outbox:
        assert outbox.memory == Memory({source_of(7): 1050}, False, (b"gap",))
        names = {job.request_id for job in outbox.jobs.of(source_of(7))}
        assert names == {f"{n}" for n in range(51, 101)}
