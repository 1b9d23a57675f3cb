"""What the judge of `make chaos` finds, and what it lets pass."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.chaos.traffic import NumberedEvent
from tests.chaos.verdict import judge
from tests.kit.reader import Record


def _record(
    offset: int, ce_id: str, number: int, *, sequence: int | None = None, key: str = "j"
) -> Record:
    value = {"request_id": key, "number": number, "emitted_at": 0.0}
    return Record(
        partition=0,
        offset=offset,
        key=key.encode(),
        value=json.dumps(value).encode(),
        headers={
            "ce_id": ce_id.encode(),
            "bridge_outbox": b"box",
            "bridge_sequence": b"%d" % (offset + 1 if sequence is None else sequence),
        },
        timestamp=0,
    )


_GOOD = [_record(0, "a-1", 0), _record(1, "a-2", 1), _record(2, "b-1", 3)]
_COMMITTED = {
    "a-1": NumberedEvent("j", 0, 0.0),
    "a-2": NumberedEvent("j", 1, 0.0),
    "b-1": NumberedEvent("j", 3, 0.0),
}


def test_events_that_nobody_could_read_are_no_finding() -> None:
    """A job's numbers may jump while the lane's sequence doesn't."""
    verdict = judge(_GOOD, _COMMITTED)
    assert (verdict.records, verdict.findings, verdict.repeats) == (3, [], [])


def test_a_repeat_is_told_apart() -> None:
    """The same record once more is a repeat and breaks neither order nor density."""
    verdict = judge([*_GOOD, _record(3, "a-2", 1, sequence=2)], _COMMITTED)
    assert verdict.findings == []
    assert verdict.repeats == ["a-2 stands at 0/1 and 0/3"]


@pytest.mark.parametrize(
    ("records", "finding"),
    [
        (_GOOD[:2], "lost: b-1, event 3 of job j"),
        (
            [*_GOOD, _record(3, "c-1", 4)],
            "c-1 at 0/3 was never seen in the outbox",
        ),
        (
            [*_GOOD[:2], _record(2, "b-1", 3, sequence=4)],
            "sequence 4 after 2 at 0/2",
        ),
        (
            [*_GOOD, _record(3, "a-1", 9)],
            "a-1 names two events: 0/0 and 0/3",
        ),
        (
            [_record(0, "a-2", 1), _record(1, "a-1", 0), _GOOD[2]],
            "job j: event 0 behind 1: 0/0 and 0/1",
        ),
        (
            [*_GOOD[:2], _record(2, "b-1", 1)],
            "job j: event 1 twice, two identities: 0/1 and 0/2",
        ),
        (
            [*_GOOD[:2], _record(2, "b-1", 4)],
            "b-1 is another event at 0/2 than in the outbox",
        ),
        (
            [
                *_GOOD[:2],
                dataclasses.replace(_record(0, "b-1", 3, sequence=1), partition=1),
            ],
            "job j is on two partitions: 0/1 and 1/0",
        ),
    ],
)
def test_what_is_wrong_is_named(records: list[Record], finding: str) -> None:
    """Loss, holes, wrong order and mixed up identities are found, with offsets."""
    assert finding in judge(records, _COMMITTED).findings
