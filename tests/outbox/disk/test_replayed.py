"""Dead letters that become rows: none twice, and both or neither after a death."""

from __future__ import annotations

from pathlib import Path

from bridge.outbox.disk.looking import is_for_replays, replayed_in

from bridge.events.record import Envelope, Record
from tests.outbox.making import append, open_jobs, read_all, record, stored, undone


def letters(*ce_ids: str) -> dict[str, list[Record]]:
    """Make a record of each letter, with the letter's name as its value."""
    return {ce_id: [record("job-1", ce_id.encode())] for ce_id in ce_ids}


def test_a_letter_becomes_rows_once(tmp_path: Path) -> None:
    """Whatever is asked again is passed over, also by a later process."""
    path = tmp_path / "outbox.sqlite3"
    with stored(path) as store:
        open_jobs(store)
        with store.transaction():
            assert store.replay(letters("a-1", "a-2")) == {"a-1", "a-2"}
        (placed,) = store.added
        assert [row.value for row in placed[2]] == [b"a-1", b"a-2"]
    with stored(path) as store:
        open_jobs(store)
        with store.transaction():
            assert store.replay(letters("a-2", "a-3")) == {"a-3"}
        assert [row.value for row in read_all(store)] == [b"a-1", b"a-2", b"a-3"]
        assert store.replayed(["a-1", "a-3", "a-4"]) == {"a-1", "a-3"}


def test_what_is_undone_can_be_replayed_again(tmp_path: Path) -> None:
    """Without the rows the letter isn't noted either."""
    with stored(tmp_path / "outbox.sqlite3") as store:
        open_jobs(store)
        with undone(store):
            store.replay(letters("a-1"))
        assert store.replayed(["a-1"]) == set()
        with store.transaction():
            assert store.replay(letters("a-1")) == {"a-1"}
        assert len(read_all(store)) == 1


def test_a_look_from_outside_tells_what_was_replayed(tmp_path: Path) -> None:
    """Also beside a process that has it open, and where there is no outbox yet."""
    assert replayed_in(tmp_path, ["a-1"]) == set()
    with stored(tmp_path / "outbox.sqlite3") as store:
        open_jobs(store)
        with store.transaction():
            store.replay(letters("a-1"))
        assert replayed_in(tmp_path, ["a-1", "a-2"]) == {"a-1"}
    assert replayed_in(tmp_path, ["a-1", "a-2"]) == {"a-1"}


def test_a_bridges_own_outbox_is_told_from_one_for_replays(tmp_path: Path) -> None:
    """It has seen a record that came from elsewhere."""
    assert is_for_replays(tmp_path)
    replay = Envelope("https://api/clients/7", "a.type", "replay", "application/json")
    with stored(tmp_path / "outbox.sqlite3") as store:
        append(store, [Record("jobs", b"job-1", b"{}", 1, replay)])
        assert is_for_replays(tmp_path)
        append(store, [record("job-1")])
    assert not is_for_replays(tmp_path)
