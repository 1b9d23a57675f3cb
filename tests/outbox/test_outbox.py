"""The outbox at work: order, requests, stopping, and other people's hands."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays the person with a shell
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from bridge.errors import OutboxDamagedError, OutboxFullError
from bridge.events import header_names
from bridge.events.record import Importance, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Spent
from tests.outbox.making import (
    append,
    dead_letter,
    delivery,
    event,
    full_disk,
    make_outbox,
    numbered,
    opened,
    read_all,
    record,
    source_of,
)


# -- Order -----------------------------------------------------------------------------


def test_a_request_is_done_behind_what_was_offered_before(tmp_path: Path) -> None:
    """Also where more waits than one commit takes: no proof gets ahead of events."""
    with opened(tmp_path) as outbox:
        for first in range(0, 9000, 3000):
            outbox.offer(numbered(first, 3000))
            outbox.prove({source_of(7): first + 3000})
            outbox.offer([event("a", progress=f"{first}")])
        commits = 0
        while outbox.has_work:
            outbox.commit()
            commits += 1
            with closing(sqlite3.connect(tmp_path / "outbox.sqlite3")) as file:
                (rows,) = file.execute("SELECT count(*) FROM rows").fetchone()
                proved = file.execute("SELECT covered_us FROM accounts").fetchone()
            assert proved is None or (proved[0] or 0) <= rows
        assert commits > 4
        assert rows == 9003


# -- Mistakes --------------------------------------------------------------------------


def test_a_mistake_of_the_relay_is_not_silent(tmp_path: Path) -> None:
    """No row is skipped, acknowledged twice or refused out of order."""

    def mistake(outbox: Outbox) -> None:
        append(outbox, numbered(0, 5))
        with pytest.raises(ValueError, match="isn't the first"):
            outbox.refuse("jobs", 0, 2, None)
        outbox.acknowledge("jobs", 0, 2, 3, 0, 1)
        with pytest.raises(OutboxDamagedError, match="rows before 2 of jobs-0"):
            outbox.states("jobs")
        assert [row.sequence for row in read_all(outbox)] == [1, 2, 3, 4, 5]

    # Closing it tries once more.
    with pytest.raises(OutboxDamagedError), opened(tmp_path) as outbox:
        mistake(outbox)


def test_a_cancelled_request_harms_nobody(tmp_path: Path) -> None:
    """A cancelled wait leaves the outbox as it is; a webhook comes again."""
    with opened(tmp_path) as outbox:
        assert outbox.take(delivery("1", "a")).cancel()
        assert outbox.held(9).cancel()
        taken = outbox.take(delivery("1", "a"))
        outbox.commit()
        assert taken.result(0)
        assert outbox.statistics.withdrawn == 1
        assert outbox.statistics.accepted == 2


# -- Stopping --------------------------------------------------------------------------


def test_a_stop_writes_what_it_can(tmp_path: Path) -> None:
    """Many commits of events, gap records and requests."""
    with opened(tmp_path) as outbox:
        outbox.offer(numbered(0, 9000))
        outbox.spend({"7": Spent(1, 2)})
        outbox.keep(record("7", topic="gaps"))
    with opened(tmp_path) as outbox:
        assert outbox.statistics.rows == 9001
        assert outbox.memory.was_stopped
        assert outbox.memory.spent == {"7": Spent(1, 2)}


def test_a_stop_of_a_full_outbox_counts_what_it_drops(tmp_path: Path) -> None:
    """What can't be written at the end is a drop, not a silence, and no stop."""
    with capture_logs() as lines, ExitStack() as disk, opened(tmp_path) as outbox:
        append(outbox, numbered(0, 10))
        outbox.offer(numbered(10, 20))
        outbox.keep(record("7", topic="gaps"))
        taken = outbox.take(delivery("1", "a"))
        disk.enter_context(full_disk(tmp_path))
    assert isinstance(taken.exception(0), OutboxFullError)
    statistics = outbox.statistics
    assert statistics.dropped["outbox_full"] == 20
    assert statistics.accepted == statistics.committed + 20 + statistics.withdrawn
    (line,) = [line for line in lines if line["event"] == "outbox.events_dropped"]
    assert (line["events"], line["gap_records"]) == (20, 1)
    with opened(tmp_path) as outbox:
        assert outbox.statistics.rows == 10
        assert not outbox.memory.was_stopped


def test_requests_after_the_end_are_cancelled(tmp_path: Path) -> None:
    """No caller waits for an answer that can't come."""
    with opened(tmp_path) as outbox:
        pass
    assert outbox.take(delivery("1", "a")).cancelled()
    assert outbox.release(1, ()).cancelled()
    assert outbox.held(9).cancelled()


def test_a_new_outbox_waits_for_its_topics(tmp_path: Path) -> None:
    """Until Kafka was reached for each, nothing can be committed; then at once."""
    with OutboxDirectory(tmp_path) as directory:
        outbox = make_outbox(directory)
        assert not outbox.knows(["jobs"])
        outbox.open_topic("jobs", 3, "id")
        assert outbox.knows(["jobs"])
        assert not outbox.knows(["jobs", "dlq"])
        outbox.close()
        outbox = make_outbox(directory)
        assert outbox.knows(["jobs"])
        outbox.close()


# -- The disk --------------------------------------------------------------------------


def test_a_lock_of_a_persons_shell_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops commits; the relay can read on."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def impatient(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, **options | {"timeout": 0.001})

    monkeypatch.setattr(sqlite3, "connect", impatient)
    with capture_logs() as lines, opened(tmp_path) as outbox:
        append(outbox, numbered(0, 5))
        path = tmp_path / "outbox.sqlite3"
        with closing(connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outbox.offer(numbered(5, 5))
            assert outbox.commit() == []
            found = [outbox.is_stuck]
            assert len(read_all(outbox)) == 5
            with pytest.raises(OutboxFullError):
                outbox.rewind("jobs", 0, 0, 0, 0)
            other.execute("ROLLBACK")
        assert outbox.commit()
        assert [*found, outbox.is_stuck] == [True, False]
    assert [line["reason"] for line in lines] == ["database is locked"]


def test_it_measures_itself(tmp_path: Path) -> None:
    """Size and lag are looked at every second."""

    def grown(outbox: Outbox) -> int:
        append(outbox, numbered(0, 100, size=5000))
        return outbox.statistics.bytes

    with opened(tmp_path) as outbox:
        append(outbox, numbered(0, 100, size=5000))
    with opened(tmp_path) as outbox:
        assert outbox.statistics.bytes > 500_000
        assert outbox.statistics.oldest_received_at_us == 1
        assert grown(outbox) >= 500_000


_DAY_US = 86_400_000_000


def _now_us() -> int:
    return time.time_ns() // 1000


def _marks(outbox: Outbox, *records: Record) -> list[str]:
    """Commit records; give the topic of each dead letter, and other rows' marks."""
    outbox.offer(records)
    placed = outbox.commit()
    found = [
        (
            int(row.ce_id.split("-")[1]),
            dict(row.extra).get(header_names.BRIDGE_ANOMALY, b"").decode()
            if topic == "jobs"
            else topic,
        )
        for topic, _, rows in placed
        for row in rows
    ]
    return [mark for _, mark in sorted(found)]


def _in_flight(outbox: Outbox) -> list[str]:
    return [job.request_id for job in outbox.jobs.of(source_of(7))]


def test_too_many_jobs_push_out_those_not_seen_for_longest(tmp_path: Path) -> None:
    """Of all accounts together, and it is counted; what is forgotten begins again."""
    now_us = _now_us()
    with opened(tmp_path, unfinished_jobs=3) as outbox:
        append(outbox, [event(name, at_us=now_us + n) for n, name in enumerate("abcd")])
        append(outbox, [event("a", at_us=now_us + 9, progress="50")])
    with opened(tmp_path, unfinished_jobs=3, refuse_late=dead_letter) as outbox:
        outbox.commit()
        assert _in_flight(outbox) == ["c", "d", "a"]
        assert outbox.statistics.forgotten_jobs == 1
        assert _marks(outbox, event("b", at_us=now_us, progress="20")) == [""]
        assert _marks(outbox, event("b", "done"), event("b")) == ["", "dlq"]


def test_a_job_without_events_is_forgotten(tmp_path: Path) -> None:
    """Its end was never sent: `error` isn't pushed."""
    with opened(tmp_path) as outbox:
        old_us = _now_us() - _DAY_US - 1
        append(outbox, [event("old", at_us=old_us), event("new", at_us=_now_us())])
    with opened(tmp_path) as outbox:
        outbox.commit()
        assert _in_flight(outbox) == ["new"]


def test_too_many_ends_push_out_the_oldest(tmp_path: Path) -> None:
    """The latest are known, as many as the setting says, and it is counted."""
    with opened(tmp_path, ended_jobs=100) as outbox:
        append(outbox, [event(f"{n}", "done") for n in range(300)])
    with opened(tmp_path, ended_jobs=100, refuse_late=dead_letter) as outbox:
        outbox.commit()
        statistics = outbox.statistics
        assert (statistics.ended_jobs, statistics.forgotten_ends) == (100, 200)
        late = _marks(outbox, *(event(f"{n}") for n in (299, 200, 199, 0)))
        assert late == ["dlq", "dlq", "", ""]


@pytest.mark.parametrize("jump_us", [-10 * _DAY_US, 10 * _DAY_US])
def test_a_clock_that_is_set_forgets_nothing(tmp_path: Path, jump_us: int) -> None:
    """An end is known for as long as it should be, and a job that goes on too."""
    with opened(tmp_path, refuse_late=dead_letter) as outbox:
        append(outbox, [event("a", "done", _now_us()), event("b", at_us=_now_us())])
        set_ns = time.time_ns() + 1000 * jump_us
        with patch("time.time_ns", return_value=set_ns):
            # What is old is looked for once a second.
            time.sleep(1.1)
            append(outbox, [event("c", at_us=set_ns // 1000)])
        assert set(_in_flight(outbox)) == {"b", "c"}
        assert _marks(outbox, event("a")) == ["dlq"]


def test_previews_on_a_topic_of_their_own_tell_events_apart(tmp_path: Path) -> None:
    """Their events have the same bytes, and another digest in a header."""
    one, other = (
        structs.replace(
            event("a", progress="5"),
            extra=((header_names.BRIDGE_PREVIEW_SHA256, digest),),
        )
        for digest in (b"00", b"01")
    )
    with opened(tmp_path) as outbox:
        assert _marks(outbox, one, other, other, one) == ["", "", "duplicate", ""]


def _pictured(status: str, progress: str, job: str = "a") -> list[Record]:
    """Make an event with a preview on a topic of its own, as the intake does."""
    shown = event(job, status, progress=progress)
    envelope = structs.replace(shown.envelope, ce_type=header_names.PREVIEW_TYPE)
    picture = structs.replace(
        shown,
        topic="gaps",
        envelope=envelope,
        importance=Importance.PICTURE,
        status=None,
        progress=None,
    )
    return [picture, shown]


@pytest.mark.parametrize("publishes", [False, True])
def test_a_late_events_preview_goes_with_it(tmp_path: Path, *, publishes: bool) -> None:
    """Of a job that has ended the topic of previews keeps what its end showed."""
    refuse = None if publishes else dead_letter
    with opened(tmp_path, refuse_late=refuse) as outbox:
        records = _pictured("in_progress", "50") + _pictured("done", "100")
        assert _marks(outbox, *records) == ["gaps", ""] * 2
        marks = ["gaps", "regression"] if publishes else ["dlq", "dlq"]
        assert _marks(outbox, *_pictured("in_progress", "60")) == marks
        assert outbox.statistics.late == (0 if publishes else 2)
        assert _marks(outbox, *_pictured("in_progress", "60", "b")) == ["gaps", ""]
