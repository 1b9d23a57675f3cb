"""What `verification` promises: each way in which a topic can be wrong is seen."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.traffic import Traffic
from benchmarks.verification import Verdict, verify
from tests.kit.reader import Record


_TRAFFIC = Traffic(events=12, jobs=4)


def _topic() -> list[Record]:
    """Make a flawless topic of two partitions."""
    records = []
    for partition in range(2):
        indices = [index for index in range(12) if index % 4 % 2 == partition]
        for offset, index in enumerate(indices):
            records.append(
                Record(
                    partition=partition,
                    offset=offset,
                    key=_TRAFFIC.request_id(index).encode(),
                    value=_TRAFFIC.payload(index).encode(),
                    headers={"bridge_sequence": b"%d" % (offset + 1)},
                    timestamp=0,
                )
            )
    return records


def test_flawless_topic_passes() -> None:
    """Everything once, whole and in order is no complaint."""
    verdict = verify(_topic(), _TRAFFIC)

    assert verdict == Verdict()
    assert verdict.flawless


def test_topic_without_sequences_passes() -> None:
    """Records of a contender that numbers nothing are judged by the rest."""
    records = [dataclasses.replace(record, headers={}) for record in _topic()]

    assert verify(records, _TRAFFIC).flawless


def test_missing_event_is_lost_and_a_hole() -> None:
    """A record that isn't there is seen by its event and by the sequence."""
    records = _topic()
    del records[2]

    verdict = verify(records, _TRAFFIC)

    assert verdict == Verdict(lost=1, holes=1)
    assert not verdict.flawless


def test_end_of_the_topic_may_not_be_missing() -> None:
    """A missing last record, which leaves no hole, is lost."""
    assert verify(_topic()[:-1], _TRAFFIC) == Verdict(lost=1)


def test_second_copy_is_a_duplicate() -> None:
    """An event that stands there twice is counted once too often."""
    records = _topic()
    copy = dataclasses.replace(records[-1], headers={"bridge_sequence": b"7"})

    assert verify([*records, copy], _TRAFFIC) == Verdict(duplicated=1)


def test_swapped_events_of_a_job_are_disordered() -> None:
    """A job's event behind its later one is out of order."""
    records = _topic()
    first, third = records[0], records[2]
    assert first.key == third.key
    records[0] = dataclasses.replace(first, value=third.value)
    records[2] = dataclasses.replace(third, value=first.value)

    assert verify(records, _TRAFFIC) == Verdict(disordered=1)


def test_job_on_two_partitions_is_disordered() -> None:
    """A job's event on another partition than the one before is out of order."""
    records = _topic()
    stray = dataclasses.replace(
        records.pop(5), partition=1, headers={"bridge_sequence": b"7"}
    )

    assert verify([*records, stray], _TRAFFIC) == Verdict(disordered=1)


@pytest.mark.parametrize("change", ["key", "value"])
def test_changed_record_is_altered(change: str) -> None:
    """A value of other bytes and a key of another job are seen."""
    records = _topic()
    if change == "key":
        records[0] = dataclasses.replace(records[0], key=records[1].key)
    else:
        value = (records[0].value or b"").replace(b"null", b"true")
        records[0] = dataclasses.replace(records[0], value=value)

    assert verify(records, _TRAFFIC) == Verdict(altered=1)


@pytest.mark.parametrize("value", [b"no JSON", b"[]", b'{"request_id":"x"}', None])
def test_stranger_is_foreign(value: bytes | None) -> None:
    """A record that is no event of the run is counted apart."""
    stranger = dataclasses.replace(_topic()[0], value=value, headers={})

    assert verify([*_topic(), stranger], _TRAFFIC) == Verdict(foreign=1)
