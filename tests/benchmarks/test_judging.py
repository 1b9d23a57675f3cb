"""What the benchmarks judge: topics, and outages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load import Traffic
from benchmarks.soketi import Attempt
from benchmarks.verdict import Evidence, Verdict, judge, verify
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


_TRAFFIC = Traffic(6, jobs=2)

# A job's events are on one partition.
_PLACES = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def _topic() -> list[Record]:
    """Give the records of a bridge that made no mistake, by partition and offset."""
    records = [
        Record(
            *_PLACES[index],
            key=_TRAFFIC.request_id(index).encode(),
            value=payload.encode(),
            headers={"bridge_sequence": str(_PLACES[index][1] + 1).encode()},
            timestamp=0,
        )
        for index, payload in enumerate(_TRAFFIC.payloads())
    ]
    return sorted(records, key=lambda record: (record.partition, record.offset))


def _lose(records: list[Record]) -> None:
    del records[-1]


def _repeat(records: list[Record]) -> None:
    records.insert(1, replace(records[0], headers={}))


def _swap(records: list[Record]) -> None:
    first, second = records[0], records[1]
    records[0] = replace(second, headers=first.headers)
    records[1] = replace(first, headers=second.headers)


def _scatter(records: list[Record]) -> None:
    records[2] = replace(records[2], partition=1, headers={})


def _alter(records: list[Record]) -> None:
    value = (records[0].value or b"").replace(b"null", b'"x"', 1)
    records[0] = replace(records[0], value=value)


def _rename(records: list[Record]) -> None:
    records[0] = replace(records[0], key=b"other")


def _add(records: list[Record]) -> None:
    records.append(replace(records[0], value=b'{"request_id": 1}', headers={}))


def _skip(records: list[Record]) -> None:
    records[2] = replace(records[2], headers={"bridge_sequence": b"4"})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda _: None, Verdict()),
        (_lose, Verdict(lost=1)),
        (_repeat, Verdict(duplicated=1)),
        (_swap, Verdict(disordered=1)),
        (_scatter, Verdict(disordered=1)),
        (_alter, Verdict(altered=1)),
        (_rename, Verdict(altered=1)),
        (_add, Verdict(foreign=1)),
        (_skip, Verdict(holes=1)),
    ],
)
def test_each_flaw_is_counted(
    spoil: Callable[[list[Record]], None], expected: Verdict
) -> None:
    """A topic as it should be is flawless, and each flaw differs from the others."""
    records = _topic()
    spoil(records)

    assert verify(records, _TRAFFIC) == expected


# Events 0, 1 before an outage from 10 to 12, 2 and 3 in it, 4 and 5 after it.
_BEGUN = [1.0, 2.0, 10.5, 11.0, 13.0, 14.0]


def _evidence(**changes: Any) -> Evidence:
    records = _topic()
    seen = {_PLACES[event]: moment + 0.1 for event, moment in enumerate(_BEGUN)}
    evidence = Evidence(
        traffic=_TRAFFIC,
        attempts=[Attempt(n, at, at + 0.01, taken=True) for n, at in enumerate(_BEGUN)],
        ended=12.0,
        unsubscribed=[10.4, 10.6],
        records=records,
        seen=seen,
        gaps=[],
    )
    return evidence._replace(**changes)


def _without(*events: int) -> list[Record]:
    places = {_PLACES[event] for event in events}
    kept = [each for each in _topic() if (each.partition, each.offset) not in places]
    return [replace(each, headers={}) for each in kept]


def test_an_outage_without_loss_is_flawless() -> None:
    """All that soketi accepted is there in time."""
    verdict = judge(_evidence())

    assert verdict.flawless
    assert (verdict.accepted, verdict.recovery_seconds) == (6, 0.0)


def test_what_is_missing_is_told_by_its_cause() -> None:
    """Event 2 came while no client was subscribed, event 3 while one was."""
    verdict = judge(_evidence(records=_without(2, 3)))

    assert (verdict.away, verdict.lost, verdict.reported) == (1, 1, 0)
    assert verdict.topic == Verdict()
    assert not verdict.flawless


def test_a_gap_excuses_what_lies_in_it() -> None:
    """A gap from 10 to 10.8 reports event 2, and not event 3."""
    gap = Gap("a", "connection_lost", "bench", 10.0, 10.8)

    assert judge(_evidence(records=_without(2), gaps=[gap])).flawless
    assert judge(_evidence(records=_without(3), gaps=[gap])).reported == 0
