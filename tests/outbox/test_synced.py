"""What heals is on the disk itself before anybody hears of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.errors import OutboxFullError
from bridge.outbox.webhooks.holding import Holding
from bridge.record import Delivery
from tests.outbox.healing import answer, delivery, open_jobs
from tests.outbox.leaving import FOR_EVER, standing
from tests.outbox.making import (
    event,
    read_all,
    running,
    source_of,
    stored,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A directory for an outbox."""
    return tmp_path / "outbox"


def test_the_commit_of_a_webhook_is_synced_and_no_other_is(path: Path) -> None:
    """SQLite is told before each such transaction, and told otherwise after it."""
    with standing(path) as outbox:
        said: list[str] = []
        store = outbox._writer._store
        connection = store._connection
        rounds: list[tuple[int, bool]] = []

        def play(*, takes: bool) -> None:
            outbox.offer([event(f"{len(rounds)}")])
            if takes:
                outbox.take(delivery(f"{len(rounds)}", "a"))
            outbox._writer._round()
            (level,) = connection.execute("PRAGMA synchronous").fetchone()
            rounds.append((level, takes))

        connection.set_trace_callback(said.append)
        for takes in (False, True, True, False, False, True, False):
            play(takes=takes)
        connection.set_trace_callback(None)
    normal, full = 1, 2
    assert rounds == [(full if takes else normal, takes) for _, takes in rounds]
    words = [one for one in said if one.startswith(("PRAGMA sync", "INSERT INTO held"))]
    told = [one.partition(" VALUES")[0] for one in words if "=" in one or "held" in one]
    full_then_held = ["PRAGMA synchronous = FULL", "INSERT INTO held"]
    back = ["PRAGMA synchronous = NORMAL"]
    assert told == [*full_then_held, "INSERT INTO held", *back, *full_then_held, *back]
    # Outside of any transaction: within one it would be an error.
    for place, one in enumerate(said):
        if one.startswith("PRAGMA synchronous ="):
            assert said[place + 1].startswith("BEGIN")


def test_the_commit_of_what_heals_is_synced(path: Path) -> None:
    """It is on disk before Kafka has it: no loss of power has it healed once more."""
    with standing(path) as outbox:
        writer = outbox._writer
        outbox.offer([event("a")])
        outbox.take(delivery("d", "b"))
        writer._round()
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        (held,) = writer._store.healer.held(1)
        execute = writer._store._connection.execute
        levels = []
        for ask in (
            lambda: None,
            lambda: outbox.heal(answer(job)),
            lambda: None,
            lambda: outbox.release(held.place, ()),
            lambda: None,
        ):
            ask()
            writer._round()
            levels += execute("PRAGMA synchronous").fetchone()
        assert levels == [1, 2, 1, 2, 1]


def test_the_level_holds_while_a_webhook_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the try before it failed."""
    levels: list[int] = []
    add = Holding.add

    def look(holding: Holding, given: Delivery) -> None:
        (level,) = holding._connection.execute("PRAGMA synchronous").fetchone()
        levels.append(level)
        if len(levels) == 1:
            raise OutboxFullError("no room")
        add(holding, given)

    monkeypatch.setattr(Holding, "add", look)
    with standing(path) as outbox:
        for number in range(2):
            outbox.take(delivery(f"{number}", "a"))
            outbox._writer._round()
        assert outbox.statistics.held == 1
    assert levels == [2, 2]


def test_webhooks_outlive_kill_9(path: Path) -> None:
    """Killed again and again: each that was answered is held, or a row, and known."""
    taken: set[int] = set()
    for life in range(3):
        told = path.parent / f"told-{life}"
        with told.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.outbox.taking", path, f"{life}0000000"],
                stdout=output,
                cwd=Path(__file__).parents[2],
            )
            deadline = time.monotonic() + 20
            while told.stat().st_size < 4000 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.wait(10)
        lines = [line.split() for line in told.read_text().split("\n")[:-1]]
        taken |= {int(number) for what, number in lines if what == "taken"}
        left = {int(number) for what, number in lines if what == "left"}
        with stored(path / "outbox.sqlite3") as store, store.reading():
            held = [int(one.record.key or b"") for one in store.healer.held(10**6)]
            rows = [int(row.key or b"") for row in read_all(store)]
        # Nothing twice, and nothing in both.
        assert len({*held, *rows}) == len(held) + len(rows)
        assert taken <= {*held, *rows}
        assert left <= set(rows)
        assert held
    assert len(taken) > 300
    with running(path, keep_jobs_seconds=FOR_EVER) as outbox:
        again = [outbox.take(delivery(f"{one}", f"{one}")) for one in taken]
        assert not any(future.result(10) for future in again)
        open_jobs(outbox)
        for one in outbox.held(10**6).result(10):
            assert outbox.release(one.place, ()).result(10)
    with stored(path / "outbox.sqlite3") as store, store.reading():
        rows = [int(row.key or b"") for row in read_all(store)]
    assert len(rows) == len(set(rows))
    assert taken <= set(rows)
