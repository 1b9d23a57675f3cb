"""Whether a topic holds what was committed: once, in order, dense.

Pure: records and committed rows come in, findings go out. It imports nothing of the
bridge: the claims must not be the bridge's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.traffic import NumberedEvent, read_event
from tests.kit.reader import Record


__all__ = ["Verdict", "judge"]


@dataclass
class Verdict:
    """
    What was found.

    Attributes:
        records: How many records the topic has.
        findings: What is wrong, a line each, with offsets.
        repeats: Records that stand there once more with the same identity and the
            same content, a line each.
    """

    records: int = 0
    findings: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)


def judge(
    records: Sequence[Record], committed: Mapping[str, NumberedEvent] | None
) -> Verdict:
    """
    Judge a topic.

    Args:
        records: All its records, by partition and offset.
        committed: Which event each `ce_id` is by the outbox's file; None where that
            was not looked at.
    """
    verdict = Verdict(len(records))
    first: dict[str, Record] = {}
    for record in records:
        known = first.setdefault(_ce_id(record), record)
        if known is record:
            continue
        if (known.key, known.value) != (record.key, record.value):
            verdict.findings.append(
                f"{_ce_id(record)} names two events: {_at(known)} and {_at(record)}"
            )
        else:
            verdict.repeats.append(
                f"{_ce_id(record)} stands at {_at(known)} and {_at(record)}"
            )
    verdict.findings += _order(first.values())
    verdict.findings += _density(first.values())
    if committed is not None:
        verdict.findings += _completeness(first, committed)
    return verdict


def _order(records: Iterable[Record]) -> Iterable[str]:
    """Each job's numbers rise, on one partition."""
    last: dict[str, tuple[int, Record]] = {}
    for record in records:
        event = _event(record)
        if event.key in last:
            number, before = last[event.key]
            place = f"{_at(before)} and {_at(record)}"
            if record.partition != before.partition:
                yield f"job {event.key} is on two partitions: {place}"
            elif event.number == number:
                yield f"job {event.key}: event {number} twice, two identities: {place}"
            elif event.number < number:
                yield f"job {event.key}: event {event.number} behind {number}: {place}"
        last[event.key] = event.number, record


def _density(records: Iterable[Record]) -> Iterable[str]:
    """Each lane's sequence goes 1, 2, 3, ..."""
    last: dict[tuple[bytes, int], int] = defaultdict(int)
    for record in records:
        lane = record.headers["bridge_outbox"], record.partition
        sequence = int(record.headers["bridge_sequence"])
        if sequence != last[lane] + 1:
            yield f"sequence {sequence} after {last[lane]} at {_at(record)}"
        last[lane] = sequence


def _completeness(
    first: Mapping[str, Record], committed: Mapping[str, NumberedEvent]
) -> Iterable[str]:
    """What was committed is there and is the same, and nothing else is."""
    for ce_id, event in committed.items():
        record = first.get(ce_id)
        if record is None:
            yield f"lost: {ce_id}, event {event.number} of job {event.key}"
        elif _event(record) != event:
            yield f"{ce_id} is another event at {_at(record)} than in the outbox"
    for ce_id, record in first.items():
        if ce_id not in committed:
            yield f"{ce_id} at {_at(record)} was never seen in the outbox"


def _event(record: Record) -> NumberedEvent:
    assert record.value is not None
    event = read_event(record.value)
    assert record.key == event.key.encode()
    return event


def _ce_id(record: Record) -> str:
    return record.headers["ce_id"].decode()


def _at(record: Record) -> str:
    return f"{record.partition}/{record.offset}"
