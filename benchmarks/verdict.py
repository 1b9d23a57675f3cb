"""
Whether every event is on the topic once, whole and in order, and what became of others.

Pure: what was sent and what is on the topic come in, counts come out. It judges any
contender by only the payload; where records carry the header `bridge_sequence`, that
must be dense in each partition too. (`tests.kit.judge` demands the bridge's form.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.load import Traffic
from benchmarks.soketi import Attempt
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


_SEQUENCE = "bridge_sequence"

# Publisher and bridge read the same clock. soketi may send an event to its subscribers
# a moment after it has answered the publisher.
_TOLERANCE_SECONDS = 0.05

# Between two looks at who is subscribed, on a machine that may be busy.
_LOOK_SECONDS = 0.1

# A contender that brings events as they come has recovered.
_PROMPT_SECONDS = 1.0

_NEVER = float("inf")


@dataclass(frozen=True)
class Verdict:
    """How many events are not as they should be."""

    lost: int = 0  # sent, and not on the topic
    duplicated: int = 0  # records beyond the first of each event
    disordered: int = 0  # behind a later event of their job, or on another partition
    altered: int = 0  # not the value that was sent, or not its request id as key
    foreign: int = 0  # not an event of this run
    holes: int = 0  # records whose `bridge_sequence` doesn't follow the last one

    @property
    def flawless(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()


def verify(records: Iterable[Record], traffic: Traffic) -> Verdict:
    """Judge all records of a topic, by partition and offset, against what was sent."""
    payloads = list(traffic.payloads())
    seen: set[int] = set()
    last: dict[str, tuple[int, int]] = {}
    sequences: dict[int, int] = {}
    duplicated = disordered = altered = foreign = holes = 0
    for record in records:
        sequence = record.headers.get(_SEQUENCE)
        if sequence is not None:
            holes += int(sequence) != sequences.get(record.partition, 0) + 1
            sequences[record.partition] = int(sequence)
        index = traffic.index_of(record.value)
        if index is None:
            foreign += 1
            continue
        request_id = traffic.request_id(index)
        altered += record.value != payloads[index].encode() or (
            record.key != request_id.encode()
        )
        if index in seen:
            duplicated += 1
            continue
        seen.add(index)
        partition, before = last.get(request_id, (record.partition, -1))
        disordered += index < before or record.partition != partition
        last[request_id] = (record.partition, index)
    lost = traffic.events - len(seen)
    return Verdict(lost, duplicated, disordered, altered, foreign, holes)


class Evidence(NamedTuple):
    """What is known after an outage; times are seconds since the epoch."""

    traffic: Traffic  # what was to be published
    attempts: Sequence[Attempt]  # what was tried of it
    ended: float  # when everything answered again
    unsubscribed: Sequence[float]  # moments at which no client was, in order
    records: Sequence[Record]  # on the topic, by partition and offset
    seen: Mapping[tuple[int, int], float]  # when a consumer had these, by the same
    gaps: Sequence[Gap]  # what the contender reported


@dataclass(frozen=True)
class FaultVerdict:
    """
    What became of the events that soketi accepted while something failed.

    What soketi didn't accept is the publisher's failure, and no contender's loss.
    """

    accepted: int
    away: int  # not on the topic, accepted while no client was subscribed
    lost: int  # not on the topic otherwise
    reported: int  # of both, in a gap that was reported
    topic: Verdict  # events that soketi refused are foreign, and none is lost
    # From the outage's end until events came as they were published, and all that had
    # waited was there; None if none came to the last.
    recovery_seconds: float | None

    @property
    def flawless(self) -> bool:
        """Whether all is on the topic once and in order, or reported, and goes on."""
        is_silent = self.reported < self.away + self.lost
        recovered = self.recovery_seconds is not None
        return recovered and not is_silent and self.topic.flawless


def judge(evidence: Evidence) -> FaultVerdict:
    """Say what became of the events."""
    arrived = _arrivals(evidence)
    accepted = sorted(
        (each for each in evidence.attempts if each.taken),
        key=lambda attempt: attempt.begun,
    )
    refused = {each.event for each in evidence.attempts if each.taken is False}
    missing = [each for each in accepted if each.event not in arrived]
    away = sum(_was_unsubscribed(each, evidence.unsubscribed) for each in missing)
    topic = verify(evidence.records, evidence.traffic)
    foreign = topic.foreign + len(refused & arrived.keys())
    return FaultVerdict(
        accepted=len(accepted),
        away=away,
        lost=len(missing) - away,
        reported=sum(_is_in_gap(each, evidence.gaps) for each in missing),
        topic=replace(topic, lost=0, foreign=foreign),
        recovery_seconds=_recovery(evidence.ended, accepted, arrived),
    )


def _arrivals(evidence: Evidence) -> dict[int, float]:
    """Give when a consumer first had each event; infinity if it never had."""
    arrived: dict[int, float] = {}
    for record in evidence.records:
        index = evidence.traffic.index_of(record.value)
        if index is not None:
            moment = evidence.seen.get((record.partition, record.offset), _NEVER)
            arrived[index] = min(moment, arrived.get(index, moment))
    return arrived


def _was_unsubscribed(attempt: Attempt, moments: Sequence[float]) -> bool:
    """Say whether no client was subscribed about when an event was accepted."""
    place = bisect_left(moments, attempt.begun - _LOOK_SECONDS)
    return place < len(moments) and moments[place] <= attempt.ended + _LOOK_SECONDS


def _is_in_gap(attempt: Attempt, gaps: Sequence[Gap]) -> bool:
    return any(
        gap.covers(attempt.begun, attempt.ended, _TOLERANCE_SECONDS) for gap in gaps
    )


def _recovery(
    ended: float, accepted: Sequence[Attempt], arrived: Mapping[int, float]
) -> float | None:
    """Say how long after an outage nothing was late or missing any more."""
    since = ended
    came = True
    for each in accepted:
        arrival = arrived.get(each.event)
        came = arrival is not None
        if arrival is None:
            since = max(since, each.ended)
        elif arrival > each.ended + _PROMPT_SECONDS:
            since = max(since, arrival)
    # An event that came only when the contender was ended reached no consumer in time.
    return since - ended if came and since < _NEVER else None
