"""A webhook without room is refused at once, and what heals waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from msgspec import structs

from bridge.errors import OutboxDamagedError, OutboxDirectoryError, OutboxFullError
from bridge.outbox import Outbox, healing_doors
from bridge.outbox.webhooks.holding import Holding
from bridge.record import Delivery, Spent
from tests.outbox.healing import answer, delivery, open_jobs
from tests.outbox.leaving import FOR_EVER, standing
from tests.outbox.making import (
    MIB,
    Log,
    event,
    eventually,
    numbered,
    record,
    running,
    source_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


# -- Without room --------------------------------------------------------------


def test_a_full_outbox_refuses_webhooks_at_once(path: Path) -> None:
    """What it holds can leave, and with room it takes what comes again."""
    with (
        running(path, max_bytes=2 * MIB, keep_jobs_seconds=FOR_EVER) as outbox,
        Log(outbox, delivers=False) as log,
    ):
        open_jobs(outbox)
        assert outbox.take(delivery("held", "held")).result(10)
        count = 0
        while not outbox.statistics.full:
            outbox.offer(numbered(count, 20, size=500))
            count += 20
            eventually(lambda: outbox.drained or outbox.statistics.full)
        for number in range(20):
            begun = time.monotonic()
            refused = outbox.take(delivery("d", "d")).exception(10)
            assert isinstance(refused, OutboxFullError)
            assert time.monotonic() - begun < 2
            assert f"{refused}" == f"outbox.max_bytes is {2 * MIB}", number
        assert len(outbox.held(9).result(10)) == 1
        committed = outbox.statistics.committed
        eventually(lambda: len(log.rows["jobs", 0]) == committed)
        log.delivers = True
        outbox.acknowledge("jobs", 0, 1, committed, 0, 500 * committed)
        eventually(lambda: outbox.drained and outbox.statistics.rows == 0)
        assert outbox.take(delivery("d", "d")).result(10)
        (first, _) = outbox.held(9).result(10)
        assert outbox.release(first.place, ()).result(10)


def test_webhooks_do_not_pile_up_before_a_disk_that_stands_still(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though who brought them has given up; with the disk they are taken again."""
    monkeypatch.setattr(healing_doors, "_MOST_WAITING", 3)
    with standing(path) as outbox:
        for number in range(3):
            assert outbox.take(delivery(f"{number}", "a")).cancel()
        refused = outbox.take(delivery("3", "a"))
        with pytest.raises(OutboxFullError, match="takes nothing just now"):
            refused.result(0)
        outbox._writer._round()
        taken = outbox.take(delivery("3", "a"))
        outbox._writer._round()
        assert taken.result(0)
        tally = outbox.statistics.tallies.read()["event", "webhook"]
        assert (tally.dropped, tally.committed) == (4, 1)


def test_webhooks_that_the_disk_refuses_hold_up_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else of their transaction is done in the next try, and they have failed."""
    with standing(path) as outbox:
        writer = outbox._writer
        outbox.offer([event("a"), event("b")])
        outbox.take(delivery("held", "z"))
        writer._round()
        (held,) = writer._store.healer.held(9)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        tries: list[str] = []
        late: list[Future[bool]] = []

        def refuse(_: Holding, given: Delivery) -> None:
            tries.append(given.delivery_id)
            late.append(outbox.take(delivery("late", "a")))
            raise OutboxFullError("database or disk is full")

        monkeypatch.setattr(Holding, "add", refuse)
        begins: list[str] = []
        writer._store._connection.set_trace_callback(begins.append)
        outbox.offer([event("c")])
        outbox.keep(record("7", topic="jobs.gaps"), opens="1")
        outbox.spend({"7": Spent(1, 2)})
        asked = outbox.lane_states()
        healed = outbox.heal(answer(job, "done", "1"))
        released = outbox.release(held.place, ())
        taken = [outbox.take(delivery(f"{number}", "a")) for number in range(3)]
        writer._round()
        for future in (*taken, *late):
            with pytest.raises(OutboxFullError, match="database or disk is full"):
                future.result(0)
        # Not each of them is tried, and none of them again.
        assert tries == ["0"]
        assert begins.count("BEGIN IMMEDIATE") == 2
        assert healed.result(0)
        assert released.result(0)
        assert asked.result(0) == []
        assert outbox.statistics.committed == 3
        assert writer._store.remembered.gaps["1"].healed_by_status_endpoint == 1
        assert writer._store.remembered.spent == {"7": Spent(1, 2)}
        assert outbox.statistics.rows == 6
        writer._round()
        assert len(tries) == 1
        monkeypatch.undo()
        # It is new still.
        again = outbox.take(delivery("0", "a"))
        writer._round()
        assert again.result(0)


def test_the_disk_s_own_refusal_is_one(path: Path) -> None:
    """SQLite finds no page for one of them, after others of the same transaction."""
    with standing(path) as outbox:
        writer = outbox._writer
        outbox.offer([event("a")])
        writer._round()
        connection = writer._store._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        outbox.offer([event("b")])
        taken = [outbox.take(delivery(f"{number}", "a")) for number in range(150)]
        writer._round()
        assert all(isinstance(future.exception(0), OutboxFullError) for future in taken)
        assert outbox.statistics.committed == 2
        assert outbox.statistics.held == 0
        few = outbox.take(delivery("0", "a"))
        writer._round()
        assert few.result(0)


@pytest.mark.parametrize("lacks", ["records", "healing"])
def test_what_heals_waits_for_room(
    path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """It stands behind all that was offered before, for as long as it takes."""
    with standing(path) as outbox:
        writer = outbox._writer
        outbox.offer([event("a"), event("b")])
        outbox.take(delivery("d", "z"))
        writer._round()
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        (held,) = writer._store.healer.held(9)
        asked = [outbox.heal(answer(job)), outbox.release(held.place, ())]
        with monkeypatch.context() as patch:
            if lacks == "records":
                outbox.offer([event("b", "done")])
                asked.append(outbox.heal(answer(job)))
                patch.setattr(writer._room, "fit", lambda *_: 0)
            else:
                patch.setattr(writer._room, "take", lambda _: False)
            for _ in range(3):
                writer._round()
            if lacks == "records":
                # What was asked before those records has nothing to wait for.
                assert [future.done() for future in asked] == [True, True, False]
            else:
                assert not any(future.done() for future in asked)
        writer._round()
        assert all(future.done() for future in asked)


def test_a_disk_that_refuses_what_heals_goes_on_with_the_rest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledgements, requests and what is reserved; it heals as soon as it can."""
    with standing(path) as outbox:
        writer = outbox._writer
        outbox.offer([event("a")])
        opened = outbox.open_topic("jobs", lambda _: 0, {0: (0, 0)}, None)
        writer._round()
        opened.result(0)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        healed = outbox.heal(answer(job))
        with monkeypatch.context() as patch:
            patch.setattr(writer._store.healer, "_write", _no_room)
            outbox.acknowledge("jobs", 0, 1, 1, 0, 10)
            outbox.keep(record("7", topic="jobs.gaps"))
            writer._round()
            assert outbox.statistics.acknowledged == 1
            assert outbox.statistics.kept == 1
            assert not healed.done()
            assert outbox.statistics.full
        writer._round()
        assert healed.result(0)


def _no_room(*_: object) -> None:
    raise OutboxFullError("no room")


def test_a_file_that_turns_out_damaged_loses_no_request(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where room is looked for in it: they are done with the file after it."""
    with standing(path) as outbox:
        room, count = outbox._writer._room, 0

        def take(_: int) -> bool:
            nonlocal count
            count += 1
            if count == 3:
                raise OutboxDamagedError("a page can't be read")
            return True

        taken = [outbox.take(delivery(f"{number}", "a")) for number in range(5)]
        with monkeypatch.context() as patch:
            patch.setattr(room, "take", take)
            with pytest.raises(OutboxDamagedError):
                outbox._writer._round()
        assert not any(future.done() for future in taken)
        outbox._writer._round()
        assert [future.result(0) for future in taken] == [True] * 5
        assert len(outbox._inbox.takes) == 0


def test_webhooks_are_refused_while_no_new_file_can_be_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged one was moved away, and the disk has no room for another one."""
    with running(path) as outbox:
        assert outbox.take(delivery("1", "a")).result(10)
        with monkeypatch.context() as patch:
            patch.setattr("bridge.outbox.succession.open_outbox", _no_directory)
            outbox._change(_find_damage)
            eventually(lambda: outbox.statistics.full)
            for number in range(2, 5):
                refused = outbox.take(delivery(f"{number}", "a")).exception(10)
                assert isinstance(refused, OutboxFullError)
        assert outbox.take(delivery("2", "a")).result(10)
        assert len(outbox.held(9).result(10)) == 2


def _no_directory(*_: object, **__: object) -> None:
    raise OutboxDirectoryError("the disk has no room")


def _find_damage(_: object) -> None:
    raise OutboxDamagedError("a page can't be read")


def test_large_webhooks_are_taken_in_steps(path: Path) -> None:
    """No commit takes more than one of records does, but one at least."""
    with standing(path) as outbox:
        writer = outbox._writer
        step = writer._room.step_bytes
        one = delivery("d", "a")
        large = structs.replace(one.record, value=bytes(step // 3))
        taken = [
            outbox.take(structs.replace(one, delivery_id=f"{number}", record=large))
            for number in range(7)
        ]
        left = []
        for _ in range(3):
            writer._round()
            left.append(sum(not future.done() for future in taken))
        assert left == [4, 1, 0]


# -- Many, none and too late ---------------------------------------------------


def test_more_than_one_commit_takes_are_answered_without_a_pause(path: Path) -> None:
    """Each commit leads to the next one, of webhooks and of what heals."""
    with standing(path) as outbox:
        writer = outbox._writer
        taken = [outbox.take(delivery(f"{n}", f"{n}")) for n in range(1000)]
        _rounds_until(outbox, lambda: all(future.done() for future in taken), 5)
        held = writer._store.healer.held(1000)
        released = [outbox.release(one.place, ()) for one in held]
        _rounds_until(outbox, lambda: all(future.done() for future in released), 10)
        assert outbox.statistics.rows == 1000


def _rounds_until(outbox: Outbox, condition: Callable[[], bool], count: int) -> None:
    for _ in range(count):
        # It doesn't wait, or only for a moment.
        begun = time.monotonic()
        outbox._writer._wait()
        assert time.monotonic() - begun < 0.5
        outbox._writer._round()
    assert condition()


def test_what_comes_after_the_end_is_cancelled(path: Path) -> None:
    """What came before it is done."""
    with standing(path) as outbox:
        outbox.offer([event("a")])
        early = outbox.take(delivery("1", "a"))
        released = outbox.release(1, ())
        outbox.spend({"7": Spent(1, 2)})
        outbox.stop()
        outbox.run()
        assert early.result(0)
        assert not released.result(0)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        late = [
            outbox.take(delivery("2", "a")),
            outbox.heal(answer(job)),
            outbox.release(1, ()),
        ]
        assert all(future.cancelled() for future in late)
        assert outbox.held(9).cancelled()
        # A stop waits for none of those that are held.
        assert outbox.drained
    with standing(path) as outbox:
        assert outbox.memory.spent == {"7": Spent(1, 2)}
        assert outbox.memory.was_stopped
        assert outbox.statistics.held_at_start == 1
