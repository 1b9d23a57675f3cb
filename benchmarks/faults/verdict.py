"""
What became of each event that a real soketi took while something failed.

Pure: what was published, what stands on the topics and when a consumer had it come
in, a verdict goes out. What soketi didn't take is nobody's loss but the publisher's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.soketi import Attempt
from benchmarks.traffic import Traffic
from benchmarks.verification import event_of, verify
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


__all__ = ["Evidence", "FaultVerdict", "judge"]

# Publisher and bridge read the same clock. soketi may send an event to its
# subscribers a moment after it has answered the publisher.
_TOLERANCE_SECONDS = 0.05

# Between two looks at who is subscribed, on a machine that may be busy.
_LOOK_SECONDS = 0.1

# Who brings events as they come is whole again.
_PROMPT_SECONDS = 1.0

_NEVER = float("inf")


@dataclass(frozen=True)
class Evidence:
    """
    What is known after a run.

    Attributes:
        traffic: What was to be published.
        attempts: What was tried of it.
        ended: When everything answered again after the outage, in seconds since the
            epoch, as all times here.
        deaf: Moments at which nobody was subscribed, a few in each tenth of a second.
        records: What stands on the topic, by partition and offset.
        seen: When a consumer had the record of a partition and an offset.
        gaps: What the contender reported.
    """

    traffic: Traffic
    attempts: Sequence[Attempt]
    ended: float
    deaf: Sequence[float]
    records: Sequence[Record]
    seen: Mapping[tuple[int, int], float]
    gaps: Sequence[Gap] = ()


@dataclass(frozen=True)
class FaultVerdict:
    """
    What became of the events.

    Attributes:
        accepted: How many soketi took.
        refused: How many it didn't take, or wasn't there for.
        unsure: How many it may have taken; they may be on the topic or not.
        on_topic: How many of the accepted are on the topic.
        away: How many aren't, and were taken while nobody was subscribed.
        lost: How many others aren't.
        told: How many of all that aren't lie in a gap that was reported.
        duplicated: More records than events, counted beyond the first of each.
        disordered: Behind a later event of their own job, or on another partition.
        altered: Another value than was sent, or another key than the request id.
        foreign: No events of this run, or such as soketi refused.
        holes: Records whose `bridge_sequence` isn't the one after the last.
        whole_seconds: From the outage's end until events came as they were published,
            and all that had waited was there; None if none came to the last.
    """

    accepted: int
    refused: int
    unsure: int
    on_topic: int
    away: int
    lost: int
    told: int
    duplicated: int
    disordered: int
    altered: int
    foreign: int
    holes: int
    whole_seconds: float | None

    @property
    def silent(self) -> int:
        """How many events are missing, and nobody says so."""
        return self.away + self.lost - self.told

    @property
    def flawless(self) -> bool:
        """Whether all is on the topic once and in order, or told, and goes on."""
        flaws = (
            self.silent,
            self.duplicated,
            self.disordered,
            self.altered,
            self.foreign,
            self.holes,
        )
        return not any(flaws) and self.whole_seconds is not None


def judge(evidence: Evidence) -> FaultVerdict:
    """Tell what became of the events."""
    arrived = _arrivals(evidence)
    accepted = sorted(
        (each for each in evidence.attempts if each.taken),
        key=lambda attempt: attempt.begun,
    )
    refused = {each.event for each in evidence.attempts if each.taken is False}
    missing = [each for each in accepted if each.event not in arrived]
    away = sum(_unheard(each, evidence.deaf) for each in missing)
    topic = verify(evidence.records, evidence.traffic)
    return FaultVerdict(
        accepted=len(accepted),
        refused=len(refused),
        unsure=sum(each.taken is None for each in evidence.attempts),
        on_topic=len(accepted) - len(missing),
        away=away,
        lost=len(missing) - away,
        told=sum(_told(each, evidence.gaps) for each in missing),
        duplicated=topic.duplicated,
        disordered=topic.disordered,
        altered=topic.altered,
        foreign=topic.foreign + len(refused & arrived.keys()),
        holes=topic.holes,
        whole_seconds=_whole(evidence.ended, accepted, arrived),
    )


def _arrivals(evidence: Evidence) -> dict[int, float]:
    """Give when a consumer first had each event; the end of time if it never had."""
    arrived: dict[int, float] = {}
    for record in evidence.records:
        index = event_of(record, evidence.traffic)
        if index is not None:
            moment = evidence.seen.get((record.partition, record.offset), _NEVER)
            arrived[index] = min(moment, arrived.get(index, moment))
    return arrived


def _unheard(attempt: Attempt, deaf: Sequence[float]) -> bool:
    """Tell whether nobody was subscribed about when an event was taken."""
    place = bisect_left(deaf, attempt.begun - _LOOK_SECONDS)
    return place < len(deaf) and deaf[place] <= attempt.ended + _LOOK_SECONDS


def _told(attempt: Attempt, gaps: Sequence[Gap]) -> bool:
    return any(
        gap.covers(attempt.begun, attempt.ended, _TOLERANCE_SECONDS) for gap in gaps
    )


def _whole(
    ended: float, accepted: Sequence[Attempt], arrived: Mapping[int, float]
) -> float | None:
    """Tell how long after an outage nothing was late or missing any more."""
    since = ended
    came = True
    for each in accepted:
        arrival = arrived.get(each.event)
        came = arrival is not None
        if arrival is None:
            since = max(since, each.ended)
        elif arrival > each.ended + _PROMPT_SECONDS:
            since = max(since, arrival)
    # What came only when the contender was ended, no consumer had in the run.
    return since - ended if came and since < _NEVER else None
