"""What the model of jobs doesn't reach: bounds, clocks, previews, other records."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import pytest
from msgspec import structs

from bridge.events import header_names
from bridge.events.record import Importance, Record
from bridge.outbox import Outbox
from tests.outbox.making import append, dead_letter, event, opened, source_of


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
