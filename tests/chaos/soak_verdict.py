"""Whether each event of a soak is on the topic, or in a gap that was reported.

Pure: what was emitted, what stands on the topics and what was done to whom come in,
findings and figures go out. It imports nothing of the bridge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.fault_log import EXPLAINS, Fault
from tests.chaos.gaps import ReportedGap
from tests.chaos.ground import Emission, Ground
from tests.chaos.traffic import read_event
from tests.chaos.verdict import judge
from tests.kit.reader import Record


__all__ = ["TOLERANCE_SECONDS", "SoakVerdict", "false_gaps", "judge_soak"]

# Publisher and bridge read the same clock. soketi may send an event to its
# subscribers a moment after it has answered the publisher.
TOLERANCE_SECONDS = 0.05

# Events that follow each other so closely are told in one line.
_RUN_SECONDS = 1.0

# A gap and what explains it must overlap. A fault is noted right before it is
# brought about and right after it is over, on a machine that may be busy.
_SLACK_SECONDS = 0.5


@dataclass
class SoakVerdict:
    """
    What became of the events.

    Attributes:
        emitted: How many soketi took.
        on_topic: How many of them are on the topic.
        covered: How many of the others lie in a gap that was reported.
        neither: The others.
        unsure: How many soketi may have taken, and how many of them are on the topic.
        false_gaps: Gaps that nothing explains.
        repeats: Records that stand there once more, with the same `ce_id`.
        spared: How many events are on the topic although they lie in a gap: what
            the bounds of gaps are too wide by, and what came late.
        findings: Everything that is not as it should be, a line each.
    """

    emitted: int
    on_topic: int = 0
    covered: int = 0
    neither: list[Emission] = field(default_factory=list)
    unsure: tuple[int, int] = (0, 0)
    false_gaps: list[ReportedGap] = field(default_factory=list)
    repeats: int = 0
    spared: int = 0
    findings: list[str] = field(default_factory=list)


def judge_soak(
    ground: Ground,
    records: Sequence[Record],
    gaps: Sequence[ReportedGap],
    faults: Sequence[Fault],
    *,
    exactly_once: bool = False,
) -> SoakVerdict:
    """
    Judge a soak.

    Args:
        ground: What was emitted.
        records: All records of the topic, by partition and offset.
        gaps: What was reported.
        faults: What was done to the bridge and to everything around it.
        exactly_once: Whether a record that stands there once more is a finding.
    """
    verdict = SoakVerdict(len(ground.emitted))
    topic = judge(records, None)
    verdict.findings += topic.findings
    verdict.repeats = len(topic.repeats)
    if exactly_once:
        verdict.findings += topic.repeats
    present = {_number(record) for record in records}
    verdict.findings += _strangers(present, ground)
    _account(verdict, ground, present, gaps)
    verdict.false_gaps = false_gaps(gaps, faults)
    verdict.findings += [f"false: {gap}" for gap in verdict.false_gaps]
    verdict.findings += [f"never closed: {gap}" for gap in gaps if gap.until is None]
    verdict.findings += _silent(verdict.neither, gaps)
    return verdict


def _account(
    verdict: SoakVerdict,
    ground: Ground,
    present: Collection[int],
    gaps: Sequence[ReportedGap],
) -> None:
    """Count what became of each event."""
    for each in ground.emitted:
        if each.number in present:
            verdict.on_topic += 1
            # In full, beyond doubt.
            verdict.spared += any(
                gap.covers(each.ended, each.begun, -TOLERANCE_SECONDS) for gap in gaps
            )
        elif any(gap.covers(each.begun, each.ended, TOLERANCE_SECONDS) for gap in gaps):
            verdict.covered += 1
        else:
            verdict.neither.append(each)
    taken = sum(each.number in present for each in ground.unsure)
    verdict.unsure = len(ground.unsure), taken


def false_gaps(
    gaps: Iterable[ReportedGap], faults: Sequence[Fault]
) -> list[ReportedGap]:
    """Give the gaps that no fault explains; the first start explains one."""
    false = []
    for number, gap in enumerate(gaps):
        if gap.cause == "first_start":
            explained = number == 0
        else:
            explained = any(_explains(fault, gap) for fault in faults)
        if not explained:
            false.append(gap)
    return false


def _explains(fault: Fault, gap: ReportedGap) -> bool:
    begun = fault.begun - _SLACK_SECONDS
    ended = float("inf") if fault.ended is None else fault.ended + _SLACK_SECONDS
    until = float("inf") if gap.until is None else gap.until
    overlap = gap.since <= ended and begun <= until
    return overlap and gap.cause in EXPLAINS[fault.kind]


def _strangers(present: Collection[int], ground: Ground) -> Iterable[str]:
    known = {each.number for kept in (ground.emitted, ground.unsure) for each in kept}
    for number in present:
        if number not in known:
            yield f"event {number} is on the topic and was never emitted"


def _silent(neither: Sequence[Emission], gaps: Sequence[ReportedGap]) -> Iterable[str]:
    """Name what was lost in silence, neighbours together."""
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


def _nearest(run: Sequence[Emission], gaps: Sequence[ReportedGap]) -> str:
    """Say by how much the nearest gap misses some events."""

    def distance(gap: ReportedGap) -> float:
        until = gap.since if gap.until is None else gap.until
        return max(gap.since - run[-1].ended, run[0].begun - until)

    nearest = min(gaps, key=distance, default=None)
    if nearest is None:
        return "no gap was reported"
    return f"{distance(nearest):.3f} s beside {nearest}"


def _number(record: Record) -> int:
    assert record.value is not None
    return read_event(record.value).number
