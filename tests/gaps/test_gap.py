"""A gap is published as the schema and the design say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge.events.record import Origin
from bridge.gaps.gap import Gap, GapCause


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
