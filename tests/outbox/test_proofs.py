"""Up to when an account was heard is written no sooner than what was read till then."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.outbox.store import Placed, Store
from bridge.outbox.values import LeftGap, Memory
from tests.outbox.leaving import found, gap_value, refuse, standing
from tests.outbox.making import (
    event,
    eventually,
    fresh,
    record,
    running,
    source_of,
    spread,
    threaded,
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
    with running(path) as outbox:
        outbox.prove({source_of(7): 50, source_of(8): 50})
        outbox.prove({source_of(7): 40})
        eventually(
            lambda: found(path).proved_us == {source_of(7): 40, source_of(8): 50}
        )
    with running(path) as outbox:
        outbox.prove({source_of(8): 45})
    assert found(path).proved_us == {source_of(7): 40, source_of(8): 45}


def test_a_proof_doesn_t_overtake_an_event(path: Path) -> None:
    """What had been offered before is on disk before the proof, or with it."""
    commits: list[tuple[int, dict[str, int]]] = []

    def look(placed: list[Placed]) -> None:
        rows = sum(len(rows) for _, _, rows in placed)
        commits.append((rows, dict(found(path).proved_us)))

    with standing(path) as outbox:
        outbox.subscribe(look, lambda _: None, lambda: None)
        outbox.open_topic("jobs", spread(1), fresh(1), None)
        # More than one commit takes.
        for first in (1, 3001):
            events = range(first, first + 3000)
            outbox.offer([event(f"{n}", at_us=n) for n in events])
            outbox.prove({source_of(7): first + 3000})
        with threaded(outbox):
            eventually(lambda: outbox.drained)
    assert len(commits) > 2
    committed = 0
    for rows, proved in commits:
        committed += rows
        assert proved.get(source_of(7), 0) <= committed + 1
    assert found(path).proved_us == {source_of(7): 6001}


def test_a_proof_waits_for_a_gap_that_a_full_disk_refuses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else the disk takes then mustn't say that all is known."""
    tries: list[Memory] = []

    def full(*_: object) -> None:
        tries.append(found(path))
        refuse()

    with standing(path) as outbox:
        outbox.keep(record("7", gap_value(1), topic="jobs.gaps"), opens="1")
        outbox.prove({source_of(7): 10})
        monkeypatch.setattr(Store, "append", full)
        with threaded(outbox):
            eventually(lambda: len(tries) > 2)
            monkeypatch.undo()
            eventually(lambda: outbox.statistics.kept == 1)
    assert {(*memory.proved_us, *memory.left_gaps) for memory in tries} == {()}
    assert found(path) == Memory({source_of(7): 10}, True, (LeftGap(gap_value(1)),))
