"""A webhook is on the disk itself before it is answered, whatever the power does."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - listens to what the outbox tells SQLite
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.outbox.healing import answer, delivery
from tests.outbox.leaving import FOR_EVER
from tests.outbox.making import event, eventually, running, source_of


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Get the statements of every connection to SQLite that is opened from now on."""
    statements: list[str] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def listen(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", listen)
    return statements


def _is_synced(said: list[str], write: str) -> list[bool]:
    """Tell of each transaction with such a statement whether its commit is synced."""
    level, synced, writes = "", [], False
    for statement in said:
        if statement.startswith("PRAGMA synchronous = "):
            level = statement.removeprefix("PRAGMA synchronous = ")
        elif statement.startswith("BEGIN"):
            begun, writes = level, False
        elif statement.startswith(write):
            writes = True
        elif statement == "COMMIT" and writes:
            # Within a transaction SQLite refuses another level.
            assert level == begun
            synced.append(level == "FULL")
    return synced


def test_the_commit_of_a_webhook_is_synced_and_no_other_is(
    tmp_path: Path, said: list[str]
) -> None:
    """It costs what waiting for the disk costs, so events alone don't wait for it."""
    with running(tmp_path / "outbox", keep_jobs_seconds=FOR_EVER) as outbox:
        for number in range(3):
            outbox.offer([event(f"{number}")])
            eventually(lambda: outbox.drained)
            assert outbox.take(delivery(f"{number}", "a")).result(10)
    assert _is_synced(said, "INSERT INTO held") == [True] * 3
    events = _is_synced(said, "INSERT INTO rows")
    assert len(events) == 3
    assert not any(events)


def test_the_commit_of_what_heals_is_synced(tmp_path: Path, said: list[str]) -> None:
    """It is on disk before Kafka has it: no loss of power has it healed once more."""
    with running(tmp_path / "outbox", keep_jobs_seconds=FOR_EVER) as outbox:
        outbox.offer([event("a")])
        assert outbox.take(delivery("d", "b")).result(10)
        eventually(lambda: outbox.drained)
        job = outbox.jobs.find(source_of(7), "a")
        assert job is not None
        (held,) = outbox.held(1).result(10)
        said.clear()
        assert outbox.heal(answer(job)).result(10)
        assert outbox.release(held.place, ()).result(10)
    assert _is_synced(said, "INSERT INTO rows") == [True] * 2
