"""One verdict on a course: its topics, its gaps, its restarts and its vitals.

Pure: what was emitted, what is on the topics and what was done to whom come in,
findings and figures go out. It imports nothing of the bridge. What holds for every
topic decides `tests.kit.judge`; what became of jobs decides `healing`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.chaos.course import Happened
from tests.chaos.load import Emission, Ground, NumberedEvent, read_event
from tests.chaos.vitals import Sample, growth, lives
from tests.kit.expected import Expected, Kind, ReadTopic
from tests.kit.gap_judge import Gap
from tests.kit.judge import judge


# Publisher and bridge read the same clock. soketi may send an event to its
# subscribers a moment after it has answered the publisher.
_TOLERANCE_SECONDS = 0.05

# Events that follow each other so closely are named in one line.
_RUN_SECONDS = 1.0

# A gap and what explains it must overlap. A fault is noted right before it is
# brought about and right after it is over, on a machine that may be busy.
_SLACK_SECONDS = 0.5

# The promise is of outages below half a minute: for so long no wait is longer.
_SHORT_OUTAGE_SECONDS = 30.0
_BACK_SECONDS = 2.0

# The longest wait between connections, and what a connect takes.
_BACK_LATE_SECONDS = 32.0

_MOST_CONNECTS = 10
_WINDOW_SECONDS = 10.0


@dataclass
class Verdict:
    """What was found: findings and repeats a line each, figures by their names."""

    findings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)


@dataclass
class Evidence:
    """What a course leaves."""

    topics: Sequence[ReadTopic]
    ground: Ground
    faults: Sequence[Happened] = ()
    samples: Sequence[Sample] = ()
    accepts: Sequence[float] = ()  # when each connection was made
    # Which event each `ce_id` is by the outbox's file, where that was looked at.
    committed: Mapping[str, NumberedEvent] | None = None
    repeats: bool = False  # whether a record may occur once more
    sources: Collection[str] | None = None  # the accounts, as `ce_source` has them


def judge_course(evidence: Evidence) -> Verdict:
    """Judge that each emitted event is on the topic once, or in a gap that is true."""
    ground, faults = evidence.ground, evidence.faults
    accepted: defaultdict[str, list[NumberedEvent]] = defaultdict(list)
    for each in sorted([*ground.emitted, *ground.unsure], key=lambda each: each.number):
        accepted[each.event.key].append(each.event)
    expected = Expected(
        accepted=accepted,
        missing=None,
        label=read_event,
        committed=evidence.committed or {},
        only_committed=evidence.committed is not None,
        repeats=evidence.repeats,
        sources=evidence.sources,
    )
    judged = judge(evidence.topics, expected)
    verdict = Verdict(judged.findings, gaps=judged.gaps, repeats=judged.repeats)
    _judge_events(verdict, evidence)
    false = false_gaps(verdict.gaps, faults)
    verdict.findings += [f"false: {gap}" for gap in false]
    verdict.figures |= {
        "gaps": Counter(gap.cause for gap in verdict.gaps),
        "false gaps": len(false),
        "records repeated": len(verdict.repeats),
        "faults": Counter(fault.name for fault in faults),
        "connects": len(evidence.accepts),
    }
    return verdict


def _judge_events(verdict: Verdict, evidence: Evidence) -> None:
    """Say what became of each event."""
    gaps, ground = verdict.gaps, evidence.ground
    (jobs,) = [topic for topic in evidence.topics if topic.kind is Kind.JOBS]
    present = {read_event(record.value or b"").number for record in jobs.records}
    on_topic = covered = spared = 0
    neither = []
    for each in ground.emitted:
        if each.number in present:
            on_topic += 1
            # In full, beyond doubt: the bounds are too wide, or it came late.
            spared += any(
                gap.covers(each.ended, each.begun, -_TOLERANCE_SECONDS) for gap in gaps
            )
        elif any(
            gap.covers(each.begun, each.ended, _TOLERANCE_SECONDS) for gap in gaps
        ):
            covered += 1
        else:
            neither.append(each)
    verdict.findings += _silent(neither, gaps)
    unsure = sum(each.number in present for each in ground.unsure)
    verdict.figures |= {
        "events emitted": len(ground.emitted),
        "events on the topic": on_topic,
        "events in a reported gap": covered,
        "events in neither": len(neither),
        "events on the topic in a gap": spared,
        "events emitted perhaps": len(ground.unsure),
        "of them on the topic": unsure,
    }


def _silent(neither: Sequence[Emission], gaps: Sequence[Gap]) -> Iterable[str]:
    """Name what was lost in silence, neighbors together."""
    runs: list[list[Emission]] = []
    for each in neither:
        if runs and each.begun - runs[-1][-1].ended < _RUN_SECONDS:
            runs[-1].append(each)
        else:
            runs.append([each])
    for run in runs:
        yield (
            f"lost in silence: {len(run)} events, the first number {run[0].number},"
            f" emitted from {run[0].ended:.3f} to {run[-1].ended:.3f};"
            f" {_nearest(run, gaps)}"
        )


def _nearest(run: Sequence[Emission], gaps: Sequence[Gap]) -> str:
    """Say by how much the nearest gap misses some events."""

    def distance(gap: Gap) -> float:
        until = gap.since if gap.until is None else gap.until
        return max(gap.since - run[-1].ended, run[0].begun - until)

    nearest = min(gaps, key=distance, default=None)
    if nearest is None:
        return "no gap was reported"
    return f"{distance(nearest):.3f} s beside {nearest}"


def false_gaps(gaps: Sequence[Gap], faults: Sequence[Happened]) -> list[Gap]:
    """Give the gaps that no fault explains; an account's first start explains one."""
    accounts: set[str] = set()
    false = []
    for gap in gaps:
        if gap.cause == "first_start":
            explained = gap.client_id not in accounts
        else:
            explained = any(_explains(fault, gap) for fault in faults)
        accounts.add(gap.client_id)
        if not explained:
            false.append(gap)
    return false


def _explains(fault: Happened, gap: Gap) -> bool:
    ended = math.inf if fault.ended is None else fault.ended + _SLACK_SECONDS
    until = math.inf if gap.until is None else gap.until
    overlap = gap.since <= ended and fault.begun - _SLACK_SECONDS <= until
    return overlap and gap.cause in fault.causes


def _soketi_ends(
    faults: Sequence[Happened], gaps: Sequence[Gap]
) -> list[tuple[Happened, float, list[Gap]]]:
    """Give each restart of soketi, when it was up, and the gaps that lie over it."""
    return [
        (
            fault,
            fault.up,
            [
                gap
                for gap in gaps
                if gap.until is not None
                and gap.since <= fault.up
                and gap.until >= fault.begun
                and gap.cause != "first_start"
            ],
        )
        for fault in faults
        if fault.up is not None
    ]


def judge_restarts(verdict: Verdict, evidence: Evidence) -> None:
    """Demand one gap a restart, the bridge back in time, and few connects."""
    backs = []
    ends = _soketi_ends(evidence.faults, verdict.gaps)
    for number, (fault, up, over) in enumerate(ends, 1):
        name = f"restart {number} ({fault.name})"
        if len(over) != 1:
            names = ", ".join(map(str, over)) or "none"
            verdict.findings.append(f"{name} has {len(over)} gaps: {names}")
            continue
        outage, back = up - fault.begun, (over[0].until or math.inf) - up
        backs.append(back)
        short = outage < _SHORT_OUTAGE_SECONDS
        if back > (_BACK_SECONDS if short else _BACK_LATE_SECONDS):
            verdict.findings.append(
                f"{name}: subscribed {back:.2f} s after soketi was up, after"
                f" {outage:.1f} s"
            )
    connects = _most_within(_WINDOW_SECONDS, evidence.accepts)
    if connects > _MOST_CONNECTS:
        line = f"{connects} connects within {_WINDOW_SECONDS:g} s"
        verdict.findings.append(line)
    starts = len({sample.pid for sample in evidence.samples})
    if starts > 1:
        verdict.findings.append(f"the bridge has lived {starts} times")
    if backs:
        verdict.figures["subscribed after soketi was up"] = (
            f"within {median(backs):.2f} s (median), {max(backs):.2f} s (longest)"
        )


def _most_within(seconds: float, times: Sequence[float]) -> int:
    """Count the most that came within any time of this length."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def judge_growth(verdict: Verdict, evidence: Evidence, **bounds: int) -> None:
    """Add what each life of the bridge has more of at its end, as `growth` says."""
    for number, (warm, last) in enumerate(lives(evidence.samples), 1):
        verdict.findings += growth(warm, last, **bounds)
        verdict.figures[f"life {number}, when warm"] = str(warm)
        end = last[-1]
        verdict.figures[f"life {number}, {end.at - warm.at:.0f} s later"] = str(end)
