"""What the judge of `make soak` finds, and what it lets pass."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.chaos.fault_log import Fault
from tests.chaos.gaps import ReportedGap, read_gaps
from tests.chaos.ground import Emission, Ground
from tests.chaos.soak_verdict import judge_soak
from tests.kit.reader import Record


# An event a second, from 100 s on; soketi answers 10 ms after the request.
_EVENTS = [Emission(number, "j", 100 + number, 100.01 + number) for number in range(10)]

_NEVER = float("-inf")


def _ground(emitted: list[Emission], unsure: list[Emission] | None = None) -> Ground:
    ground = Ground()
    ground.emitted, ground.unsure = emitted, unsure or []
    return ground


def _records(numbers: list[int]) -> list[Record]:
    return [
        Record(
            partition=0,
            offset=offset,
            key=b"j",
            value=json.dumps(
                {"request_id": "j", "number": number, "emitted_at": 0.0}
            ).encode(),
            headers={
                "ce_id": b"a-%d" % number,
                "bridge_outbox": b"box",
                "bridge_sequence": b"%d" % (offset + 1),
            },
            timestamp=0,
        )
        for offset, number in enumerate(numbers)
    ]


def _gap(cause: str, since: float, until: float | None) -> ReportedGap:
    return ReportedGap("5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11", cause, since, until)


_RESTART = Fault("soketi killed", 102.5, 104.5)
_LOST_2_TO_4 = [0, 1, 5, 6, 7, 8, 9]


def test_what_is_missing_within_a_gap_is_covered() -> None:
    """Each event is on the topic or emitted while a gap lasted: nothing is found."""
    verdict = judge_soak(
        _ground(_EVENTS),
        _records(_LOST_2_TO_4),
        [_gap("disconnected", 101.2, 104.8)],
        [_RESTART],
    )
    assert verdict.findings == []
    assert (verdict.emitted, verdict.on_topic, verdict.covered) == (10, 7, 3)
    assert (verdict.neither, verdict.false_gaps) == ([], [])


def test_the_first_gap_may_reach_back_to_the_beginning_of_time() -> None:
    """A `since` of null covers everything up to `until`, and the start explains it."""
    verdict = judge_soak(
        _ground(_EVENTS),
        _records(list(range(3, 10))),
        [_gap("first_start", _NEVER, 102.5)],
        [],
    )
    assert (verdict.findings, verdict.covered) == ([], 3)


@pytest.mark.parametrize("beside_seconds", [-0.1, 0.1])
def test_an_event_right_beside_a_gap_is_lost_in_silence(beside_seconds: float) -> None:
    """A gap that is too short by a tenth of a second is told, with the distance."""
    gap = _gap("disconnected", 101.9, 104.2)
    lost = 2 if beside_seconds > 0 else 4
    if beside_seconds > 0:
        gap = replace(gap, since=_EVENTS[2].ended + beside_seconds)
    else:
        gap = replace(gap, until=_EVENTS[4].begun + beside_seconds)
    verdict = judge_soak(_ground(_EVENTS), _records(_LOST_2_TO_4), [gap], [_RESTART])
    assert verdict.neither == [_EVENTS[lost]]
    (finding,) = verdict.findings
    assert finding.startswith(f"lost in silence: 1 events, the first number {lost}")
    assert "; 0.100 s beside gap 5f0c1c52 (disconnected" in finding


def test_a_gap_that_never_closed_covers_nothing() -> None:
    """An open gap is a finding, and so is what is missing behind its beginning."""
    verdict = judge_soak(
        _ground(_EVENTS),
        _records(_LOST_2_TO_4),
        [_gap("disconnected", 101.2, None)],
        [_RESTART],
    )
    assert len(verdict.neither) == 3
    assert [line.split(":")[0] for line in verdict.findings] == [
        "never closed",
        "lost in silence",
    ]


@pytest.mark.parametrize(
    ("gap", "faults"),
    [
        (_gap("disconnected", 103, 104), []),
        (_gap("disconnected", 103, 104), [Fault("kafka killed", 102, 105)]),
        (_gap("disconnected", 103, 104), [Fault("cable slow", 102, 105)]),
        (_gap("crashed", 103, 104), [_RESTART]),
        (_gap("disconnected", 106, 107), [_RESTART]),
        (_gap("disconnected", 100, 101.5), [_RESTART]),
    ],
)
def test_a_gap_without_a_fault_that_explains_it_is_false(
    gap: ReportedGap, faults: list[Fault]
) -> None:
    """The fault must be able to cause such a gap, and must have happened within it."""
    verdict = judge_soak(_ground(_EVENTS), _records(list(range(10))), [gap], faults)
    assert verdict.false_gaps == [gap]
    assert verdict.findings == [f"false: {gap}"]


def test_a_second_first_start_is_false() -> None:
    """An outbox that has been there is not new, whatever the bridge says."""
    gaps = [_gap("first_start", _NEVER, 99.0), _gap("first_start", _NEVER, 104.0)]
    verdict = judge_soak(_ground(_EVENTS), _records(list(range(10))), gaps, [])
    assert verdict.false_gaps == gaps[1:]


def test_events_that_arrived_although_a_gap_lasted_are_counted() -> None:
    """Three events lie within the gap beyond doubt, and cost nothing but the count."""
    gap = _gap("disconnected", 101.5, 104.5)
    verdict = judge_soak(_ground(_EVENTS), _records(list(range(10))), [gap], [_RESTART])
    assert (verdict.spared, verdict.findings) == (3, [])


def test_an_event_that_was_perhaps_emitted_may_be_missing_or_there() -> None:
    """Nobody knows whether soketi took it before the request broke."""
    ground = _ground(_EVENTS[:8], _EVENTS[8:])
    verdict = judge_soak(ground, _records(list(range(9))), [], [])
    assert (verdict.findings, verdict.unsure) == ([], (2, 1))


def test_an_event_that_nobody_emitted_is_found() -> None:
    """What stands on the topic was emitted, or perhaps emitted."""
    verdict = judge_soak(_ground(_EVENTS[:9]), _records(list(range(10))), [], [])
    assert verdict.findings == ["event 9 is on the topic and was never emitted"]


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_repeat_is_a_finding_where_there_must_be_none(*, exactly_once: bool) -> None:
    """Idempotent delivery may leave the same record once more, after a late write."""
    records = _records(list(range(10)))
    records.append(replace(records[9], offset=10))
    verdict = judge_soak(_ground(_EVENTS), records, [], [], exactly_once=exactly_once)
    assert verdict.repeats == 1
    assert verdict.findings == (["a-9 stands at 0/9 and 0/10"] if exactly_once else [])


def test_an_event_with_two_identities_is_found() -> None:
    """The same event under two `ce_id`s is no repeat: nothing tells consumers of it."""
    records = _records(list(range(10)))
    again = {**records[9].headers, "ce_id": b"b-1", "bridge_sequence": b"11"}
    records.append(replace(records[9], offset=10, headers=again))
    (finding,) = judge_soak(_ground(_EVENTS), records, [], []).findings
    assert finding == "job j: event 9 twice, two identities: 0/9 and 0/10"


# -- The ledger's records -------------------------------------------------


_OPENED: dict[str, object] = {
    "gap_id": "5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11",
    "cause": "disconnected",
    "client_id": "me",
    "since": "1970-01-01T00:01:40.000000Z",
    "until": None,
    "duration_seconds": None,
    "close_code": 4200,
    "jobs_in_flight": 3,
}
_CLOSED: dict[str, object] = {
    **_OPENED,
    "until": "1970-01-01T00:01:42.500000Z",
    "duration_seconds": 2.5,
}


def _healed(by_endpoint: int, by_webhook: int, unknown: int) -> dict[str, object]:
    return {
        "healed_by_status_endpoint": by_endpoint,
        "healed_by_webhook": by_webhook,
        "unknown": unknown,
    }


def _ledger(*values: dict[str, object]) -> list[Record]:
    return [
        Record(
            partition=0,
            offset=offset,
            key=b"me",
            value=json.dumps(value).encode(),
            headers={"ce_id": b"a-%d" % offset},
            timestamp=0,
        )
        for offset, value in enumerate(values)
    ]


def test_a_gap_is_read_from_its_two_records() -> None:
    """It opens and closes; a null `since` is the beginning of time."""
    gap = replace(_gap("disconnected", 100.0, 102.5), jobs_in_flight=3)
    assert read_gaps(_ledger(_OPENED, _CLOSED), "me") == ([gap], [])
    forever = [
        {**each, "since": None, "duration_seconds": None} for each in (_OPENED, _CLOSED)
    ]
    assert read_gaps(_ledger(*forever), "me") == ([replace(gap, since=_NEVER)], [])


def test_a_gap_is_settled_after_it_has_closed_and_may_be_settled_better() -> None:
    """What was unknown may be healed later; the last record counts."""
    settled = {**_CLOSED, **_healed(1, 0, 2)}
    better = {**_CLOSED, **_healed(1, 1, 1)}
    (gap,), found = read_gaps(_ledger(_OPENED, _CLOSED, settled, better), "me")
    assert (gap.healed, gap.unknown, found) == ((1, 1), 1, [])


def test_jobs_in_flight_may_be_found_out_late() -> None:
    """A record that opens a gap may not know them, one that closes it may."""
    opened = {**_OPENED, "jobs_in_flight": None}
    (gap,), found = read_gaps(_ledger(opened, _CLOSED), "me")
    assert (gap.jobs_in_flight, found) == (3, [])


def test_a_late_write_of_a_gaps_record_is_no_second_one() -> None:
    """The same `ce_id` once more is counted once, as everywhere."""
    records = _ledger(_OPENED, _OPENED, _CLOSED)
    records[1] = replace(records[1], headers=records[0].headers)
    assert read_gaps(records, "me")[1] == []


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ([_OPENED], "0 records close it"),
        ([_CLOSED], "0 records open it"),
        ([_OPENED, _OPENED, _CLOSED], "2 records open it"),
        ([_OPENED, _CLOSED, _CLOSED], "2 records close it"),
        ([_OPENED, {**_CLOSED, "close_code": None}], "close_code was 4200 and is None"),
        ([_OPENED, {**_CLOSED, "until": "1970-01-01T00:01:39.000000Z"}], "it ends at"),
        ([_OPENED, {**_CLOSED, "client_id": "you"}], "is of b'me'"),
        ([_OPENED, {**_CLOSED, **_healed(0, 0, 0)}], "0 records close it"),
        ([_OPENED, _CLOSED, *[{**_CLOSED, **_healed(0, 0, 1)}] * 2], "settled with"),
        (
            [
                _OPENED,
                _CLOSED,
                {**_CLOSED, **_healed(1, 0, 0)},
                {**_CLOSED, **_healed(0, 1, 0)},
            ],
            "healed (0, 1) after (1, 0)",
        ),
        ([_OPENED, {**_CLOSED, "cause": "hunch"}], "'hunch' is not one of"),
    ],
)
def test_a_ledger_that_is_not_as_designed_is_told(
    values: list[dict[str, object]], finding: str
) -> None:
    """A gap opens once and closes once, with one identity and by the schema."""
    assert any(finding in line for line in read_gaps(_ledger(*values), "me")[1])
