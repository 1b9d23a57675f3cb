"""Gaps open, close, are resolved and forgotten; each change is a record.

What counts where, over many processes, is shown by `models/test_gap_records.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.events.record import Envelope, Importance, Origin, Record
from bridge.gaps.gap import Gap, GapCause
from bridge.outbox.values import Loss
from bridge.pusher.coverage import Cause, Interruption
from tests.gaps.books import NOW_US, SOURCE, Books


def at(seconds: int) -> int:
    """Give a moment so many seconds after noon."""
    return NOW_US + seconds * 1_000_000


def loss(
    until_us: int | None = None, records: int = 1, client_id: str | None = "42"
) -> Loss:
    """Give a loss of the outbox, of an account or of any, at its begin or its end."""
    ce_source = None if client_id is None else SOURCE + client_id
    return Loss(1, "outbox_full", ce_source, at(-9), until_us, records)


def gap_of(books: Books) -> str:
    """Open a gap of account 42, and close it."""
    gap_id = books.ledger.open("42", GapCause.DEAF, at(-9))
    books.ledger.close(gap_id, at(-1))
    return gap_id


# -- Records ---------------------------------------------------------------------


def test_a_gap_is_a_record_of_its_account() -> None:
    """Topic, key, headers and importance are those of the design."""
    books = Books("42")
    books.ledger.open("42", GapCause.DEAF, None)
    # Each of its causes is counted from the start.
    assert set(books.ledger.statistics.gaps) == {("42", cause) for cause in GapCause}
    [record] = books.records
    assert record == Record(
        topic="jobs.gaps",
        key=b"42",
        value=record.value,
        received_at_us=NOW_US,
        envelope=Envelope(
            ce_source="https://api.dryapi.dev/clients/42",
            ce_type="dev.dryapi.bridge.gap",
            origin="socket",
            content_type="application/json",
            kind="gap",
        ),
        importance=Importance.TERMINAL,
    )


@pytest.mark.parametrize(("known", "counted"), [(None, 7), (5, 5)])
def test_jobs_in_flight_are_counted_at_the_end_if_not_before(
    known: int | None, counted: int
) -> None:
    """The outbox may not know them yet when a gap opens; what was known stays."""
    books = Books("42")
    if known is not None:
        books.jobs_in_flight["42"] = known
    gap_id = books.ledger.open("42", GapCause.DEAF, None)
    books.jobs_in_flight["42"] = 7
    books.ledger.close(gap_id, NOW_US)
    assert [gap["jobs_in_flight"] for gap in books.gaps] == [known, counted]


def test_each_change_of_a_gap_is_one_line_in_the_log() -> None:
    """A warning where events may have been lost, or the fate of jobs is unknown."""
    books = Books("42")
    books.jobs_in_flight["42"] = 3
    with structlog.testing.capture_logs() as lines:
        books.ledger.on_loss(loss())
        books.ledger.on_loss(loss(until_us=NOW_US, records=500))
        (closed,) = books.ledger.unresolved("42")
        books.heal([closed.gap.gap_id], Origin.STATUS_ENDPOINT)
        books.ledger.resolve(closed, 2)
        books.ledger.resolve(closed, 2)
        books.ledger.resolve(closed, 0)
    who = {
        "gap_id": books.gaps[0]["gap_id"],
        "cause": "outbox_full",
        "client_id": "42",
    }
    since = "2026-01-31T11:59:51.000000Z"
    resolved = {
        **who,
        "event": "gap.resolved",
        "jobs_in_flight": 3,
        "healed_by_status_endpoint": 1,
        "healed_by_webhook": 0,
    }
    assert lines == [
        {**who, "event": "gap.opened", "log_level": "warning", "since": since},
        {
            **who,
            "event": "gap.closed",
            "log_level": "info",
            "duration_seconds": 9,
            "records_lost": 500,
        },
        {**resolved, "log_level": "warning", "unknown": 2},
        {**resolved, "log_level": "info", "unknown": 0},
    ]


def test_a_loss_of_an_account_that_is_not_configured_is_a_line_in_the_log() -> None:
    """No session of that account would close its gap."""
    books = Books("1")
    with structlog.testing.capture_logs() as lines:
        books.ledger.on_loss(loss(client_id="2"))
        books.ledger.on_loss(loss(NOW_US, 5, client_id="2"))
    assert books.records == []
    assert books.ledger.statistics.open == {"1": 0}
    assert lines == [
        {
            "event": "gap.without_account",
            "log_level": "warning",
            "cause": "outbox_full",
            "ce_source": SOURCE + "2",
            "records_lost": 5,
        }
    ]


def test_a_clock_that_is_set_back_breaks_nothing() -> None:
    """An end before its start is reported as the clock showed it; no sum decreases."""
    books = Books("42", proved_us={"42": at(600)})
    coverage = books.begin("42")
    coverage.subscribed(at(0))
    coverage.interrupted(Interruption(Cause.SUSPENDED, at(5), until_us=at(-5)))
    coverage.interrupted(Interruption(Cause.DISCONNECTED, at(-9)))
    coverage.subscribed(at(-7))
    assert [
        (gap["cause"], gap["since"][11:19], gap["until"][11:19])
        for gap in books.gaps[1::2]
    ] == [
        ("crashed", "12:10:00", "12:00:00"),
        ("suspended", "12:00:05", "11:59:55"),
        ("disconnected", "11:59:51", "11:59:53"),
    ]
    assert books.ledger.statistics.seconds == {"42": 2}


def test_of_too_many_gaps_the_oldest_are_forgotten() -> None:
    """A thousand of an account are remembered, however many there are."""
    books = Books("42")
    gap_of(books)
    with structlog.testing.capture_logs():
        gap_ids = [gap_of(books) for _ in range(1000)]
    books.ledger.expire()
    assert list(books.remembered) == gap_ids
    assert books.ledger.healable("42", at(-9), None) == tuple(gap_ids)
    unresolved = books.ledger.unresolved("42")
    assert [closed.gap.gap_id for closed in unresolved] == gap_ids


# -- What the process before left ---------------------------------------------------


def left(cause: GapCause, since_us: int | None, who: str = "42") -> Gap:
    """Give a gap that was left open."""
    return Gap(f"{who} {cause} {since_us}", cause, who, since_us)


@pytest.mark.parametrize("first_us", [None, at(1)])
def test_of_two_gaps_without_a_subscription_the_first_continues(
    first_us: int | None,
) -> None:
    """Only a file that was tampered with has two: none stays open forever."""
    first = left(GapCause.CRASHED, first_us)
    later = left(GapCause.DISCONNECTED, at(5))
    remembered = {gap.gap_id: gap.encode() for gap in (later, first)}
    books = Books("42", remembered=remembered, proved_us={"42": at(1)})
    [record] = books.records
    assert Gap.decode(record.value) == msgspec.structs.replace(later, until_us=at(5))
    books.begin("42").subscribed(at(20))
    assert books.gaps[1]["gap_id"] == first.gap_id
    assert not books.left_open


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b'{"gap_id":"\xff"}',
        b"[]",
        b"{}",
        left(GapCause.DEAF, 0).encode().replace(b"deaf", b"bad_luck"),
        left(GapCause.DEAF, 0).encode().replace(b"1970-01", b"1970-13"),
        left(GapCause.DEAF, 0).encode().replace(b'.000000Z"', b'"'),
        left(GapCause.DEAF, 0).encode().replace(b'"42"', b"42"),
    ],
)
def test_a_gap_that_can_not_be_read_does_not_delay_a_start(value: bytes) -> None:
    """It is logged and left unchanged; the start has a gap that covers its interval."""
    gap = left(GapCause.DISCONNECTED, at(0), "other")
    with structlog.testing.capture_logs() as lines:
        books = Books(
            "42",
            "other",
            remembered={"?": value, gap.gap_id: gap.encode()},
            proved_us={"42": at(0)},
        )
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("gap.unreadable", "warning"),
        ("gap.continued", "info"),
    ]
    books.begin("42")
    assert [gap["cause"] for gap in books.gaps] == ["crashed"]
    assert books.remembered["?"] == value


VALIDATOR = Draft202012Validator(
    json.loads(
        (Path(__file__).parents[2] / "schemas" / "gap.schema.json").read_text(
            encoding="utf-8"
        )
    )
)

# 2026-01-31T12:00:00Z.
NOON_US = 1_769_860_800_000_000

# From the epoch into the year 9999, which RFC 3339 ends with.
MOMENTS = st.integers(0, 253_402_300_799_999_999)


def published(**members: Any) -> dict[str, Any]:
    """Give what a reader reads of a gap with some members changed."""
    plain = {
        "gap_id": "g-1",
        "cause": GapCause.OVERFLOW,
        "client_id": "client-42",
        "since_us": NOON_US,
    }
    record = json.loads(Gap(**{**plain, **members}).encode())
    VALIDATOR.validate(record)
    assert isinstance(record, dict)
    return record


_OPEN: dict[str, Any] = {
    "gap_id": "g-1",
    "cause": "overflow",
    "client_id": "client-42",
    "since": "2026-01-31T12:00:00.000000Z",
    "until": None,
    "duration_seconds": None,
    "close_code": None,
    "jobs_in_flight": None,
}
_NOON = {"until": "2026-01-31T12:00:00.000000Z", "duration_seconds": 0}


@pytest.mark.parametrize(
    ("members", "reported"),
    [
        ({}, {}),
        (
            {"until_us": NOON_US + 7_250_001, "close_code": 1006, "jobs_in_flight": 3},
            {
                "until": "2026-01-31T12:00:07.250001Z",
                "duration_seconds": 7.250001,
                "close_code": 1006,
                "jobs_in_flight": 3,
            },
        ),
        # Settled: that nothing is unknown is what a reader looks for.
        (
            {"until_us": NOON_US, "healed_by_webhook": 4, "unknown": 0},
            {
                **_NOON,
                "healed_by_status_endpoint": 0,
                "healed_by_webhook": 4,
                "unknown": 0,
            },
        ),
        # A first start has only an end.
        (
            {"cause": GapCause.FIRST_START, "since_us": None, "until_us": NOON_US},
            {**_NOON, "cause": "first_start", "since": None, "duration_seconds": None},
        ),
        # A clock was set back; a sum would believe a duration below zero.
        (
            {"until_us": NOON_US - 5_000_000},
            {"until": "2026-01-31T11:59:55.000000Z", "duration_seconds": 0},
        ),
    ],
)
def test_gap_is_published_with_what_is_known(
    members: dict[str, Any], reported: dict[str, Any]
) -> None:
    """Times have microseconds, whole seconds too; the duration is theirs."""
    assert published(**members) == _OPEN | reported


def test_healed_jobs_are_not_reported_before_the_gap_is_resolved() -> None:
    """Until then a reader can't distinguish a part from the whole."""
    plain = Gap("g-1", GapCause.DEAF, "client-42", NOON_US)
    healed = plain.healed(Origin.WEBHOOK).healed(Origin.STATUS_ENDPOINT)
    assert (healed.healed_by_webhook, healed.healed_by_status_endpoint) == (1, 1)
    assert healed.encode() == plain.encode()


@given(
    st.builds(
        Gap,
        gap_id=st.uuids().map(str),
        cause=st.sampled_from(GapCause),
        client_id=st.text(),
        since_us=st.none() | MOMENTS,
        until_us=st.none() | MOMENTS,
        close_code=st.none() | st.integers(1000, 4999),
        jobs_in_flight=st.none() | st.integers(0, 10_000),
        healed_by_status_endpoint=st.integers(0, 10_000),
        healed_by_webhook=st.integers(0, 10_000),
        unknown=st.integers(0, 10_000),
    )
)
def test_gap_is_read_as_it_was_written(gap: Gap) -> None:
    """A start knows to the microsecond what the process before left."""
    VALIDATOR.validate(json.loads(gap.encode()))
    assert Gap.decode(gap.encode()) == gap


def test_causes_are_the_closed_list() -> None:
    """The ten words are those that consumers were promised."""
    assert [cause.value for cause in GapCause] == [
        "first_start",
        "stopped",
        "crashed",
        "disconnected",
        "deaf",
        "refused",
        "suspended",
        "overflow",
        "outbox_full",
        "outbox_damaged",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cause", "bad_luck"),
        ("since", "2026-01-31T12:00:00Z"),
        ("until", "2026-01-31 12:00:00.000000Z"),
        ("duration_seconds", -1),
        ("jobs_in_flight", -1),
        ("jobs_in_flight", 1.5),
        ("healed_by_status_endpoint", -1),
        ("healed_by_webhook", None),
        ("unknown", 0.5),
    ],
)
def test_schema_refuses_what_no_gap_has(name: str, value: object) -> None:
    """Other causes, other forms of time and numbers below zero don't validate."""
    assert not VALIDATOR.is_valid({**published(), name: value})
