"""What the verdict finds: one thing is broken in a course without fault, and is named.

What holds for every topic is broken in `tests.kit.test_judge`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.course import Happened
from tests.chaos.faults import named
from tests.chaos.healing import judge_healing
from tests.chaos.load import Emission, Ground, NumberedEvent
from tests.chaos.truth import (
    AccountTruth,
    Call,
    Limits,
    Step,
    Truth,
    UpstreamJob,
)
from tests.chaos.verdict import (
    Evidence,
    Verdict,
    judge_course,
    judge_growth,
    judge_restarts,
)
from tests.chaos.vitals import Sample
from tests.kit.expected import Kind
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record
from tests.kit.test_judge import Written, event_of, gap_of


_MIB = 2**20

# The noon of what is written here.
_NOON = 1_769_860_800.0


def _judged(
    *,
    on_topic: Sequence[int] = (0, 1, 5, 6, 7, 8, 9),
    gap: tuple[str, float, float | None] | None = ("disconnected", 1.2, 5.0),
    fault: tuple[str, float, float] | None = ("soketi killed", 2.5, 4.5),
    again: bool = False,
    samples: Sequence[Sample] = (),
    **more: Any,
) -> Verdict:
    """Judge ten events of one job, one a second from noon; soketi restarts at 2 to 4.

    A test may change what is on the topic, what a gap reports and what happened.
    """
    events = [NumberedEvent("j", number, _NOON + number) for number in range(10)]
    written = Written()
    for number in on_topic:
        own = {"number": number, "emitted_at": _NOON + number}
        status = "done" if number == 9 else "in_progress"
        written.write(Kind.JOBS, "j", event_of("j", status, 10 * number, **own))
    if again:
        written.again(Kind.JOBS, -1)
    if gap:
        cause, since, until = gap
        for end in dict.fromkeys((None, until)):
            written.write(Kind.GAPS, "c1", gap_of(end, since, cause=cause))
    faults = []
    if fault:
        name, begun, ended = fault[0], _NOON + fault[1], _NOON + fault[2]
        up = ended if "soketi" in name else None
        faults = [Happened(name, named(name).causes, begun, ended, up)]
    emissions = [Emission(e, e.emitted_at, e.emitted_at + 0.01) for e in events]
    topics, ground = written.read(), Ground(emissions)
    evidence = Evidence(topics, ground, faults, samples=samples, **more)
    verdict = judge_course(evidence)
    judge_restarts(verdict, evidence)
    judge_growth(verdict, evidence)
    return verdict


def _sample(at: float, **more: int | None) -> Sample:
    usual: dict[str, Any] = {
        "rss_bytes": 50 * _MIB,
        "descriptors": 20,
        "threads": 3,
        "tasks": 17,
    }
    return Sample(at, **{"pid": 1, **usual, **more})


_CALM: dict[str, Any] = {"on_topic": range(10), "gap": None, "fault": None}
_GROWN = {"rss_bytes": 70 * _MIB, "descriptors": 25, "threads": 8, "tasks": 22}
_LEAKING = [_sample(600 - ago, **_GROWN) for ago in (4, 3, 2, 1, 0)]
_ACCEPTS = [110.0 + 0.95 * number for number in range(12)]

_DEFECTS: list[tuple[dict[str, Any], str]] = [
    ({"on_topic": [0, 1, 5, 6, 8, 9]}, "lost in silence: 1 events, the first number 7"),
    # A gap that is too short by a tenth of a second.
    ({"gap": ("disconnected", 2.11, 5.0)}, "; 0.100 s beside gap 9c6f4c5e"),
    ({"gap": ("disconnected", 1.2, None)}, "never closed: gap"),
    # One that costs no event, one of another cause, one before.
    ({"fault": ("kafka killed", 2, 5)}, "false: gap"),
    ({"gap": ("crashed", 1.2, 5.0)}, "false: gap"),
    ({"fault": ("soketi paused", -2, 0)}, "false: gap"),
    ({"again": True}, "repeated: aaaaaaaaaaaaaaaa-7 is at"),
    ({"committed": {"c-1": "x"}}, "lost: c-1 was committed"),
    ({**_CALM, "fault": ("soketi killed", 2, 4)}, "has 0 gaps: none"),
    (
        {"gap": ("disconnected", 1.2, 7.0)},
        "subscribed 2.50 s after soketi was up, after 2.0 s",
    ),
    ({"accepts": _ACCEPTS}, "11 connects within 10 s"),
    (
        {"samples": [_sample(0), _sample(80), *_LEAKING]},
        "memory grew by 20.0 MiB in 520 s",
    ),
]


@pytest.mark.parametrize(("changes", "finding"), _DEFECTS)
def test_each_defect_of_a_course_is_found(
    changes: dict[str, Any], finding: str
) -> None:
    """Lost and repeated events, false and open gaps, late returns, growth."""
    findings = _judged(**changes).findings
    assert any(finding in line for line in findings), findings


def test_what_is_as_it_should_be_is_let_pass() -> None:
    """What is missing is in a gap that a fault explains."""
    for changes in ({}, _CALM, {"again": True, "repeats": True}):
        assert _judged(**changes).findings == [], changes
    figures = _judged().figures
    assert figures["events on the topic"] == 7
    assert figures["events in a reported gap"] == 3


def _job(name: str, *steps: tuple[float, str, bool]) -> UpstreamJob:
    """Make a job: when it was what, and whether soketi took the event."""
    made = []
    for at, status, taken in steps:
        # No event reports a failure.
        begun, ended = (None, None) if status == "error" else (at, at + 0.01)
        made.append(Step(status, at, "0.00", begun, ended, taken))
    return UpstreamJob(name, made, None)


class _Jobs:
    """Jobs of an account without webhooks, beside a gap from 100 to 110.

    Job `a` is done within it, `c` began and ended in it, `d` went on over it, `f` fails
    in it.
    """

    def __init__(self) -> None:
        jobs = [
            _job("a", (90, "processing", True), (105, "done", False)),
            _job("c", (102, "processing", False), (107, "done", False)),
            _job("d", (95, "processing", True), (120, "done", True)),
            _job("f", (96, "processing", True), (106, "error", False)),
        ]
        own = {job.request_id: job for job in jobs}
        self.account = AccountTruth("bare", Limits(225, float("inf")), None, own)
        self.truth = Truth([self.account], stale_seconds=20.0)
        gap = Gap("g", "disconnected", "me", 99.5, 110.0, opened=100.1, unknown=0)
        self.gaps = {"bare": [replace(gap, jobs_in_flight=3, healed=(2, 0))]}
        self.records: dict[int, Record] = {}
        self.seen: dict[tuple[int, int], float] = {}
        for name, read in (("a", 90.05), ("d", 95.05), ("f", 96.05)):
            self.say(name, "processing", read)
        self.say("a", "done", 110.5, "status-endpoint")
        self.say("f", "error", 112.0, "status-endpoint")
        self.say("d", "done", 120.05)

    def say(self, job: str, status: str, read: float, origin: str = "socket") -> None:
        """Write a record."""
        value = {"request_id": job, "status": status, "progress": "0.00"}
        offset = max(self.records, default=-1) + 1
        self.records[offset] = Record(
            partition=0,
            offset=offset,
            key=job.encode(),
            value=json.dumps(value).encode(),
            headers={
                "ce_id": b"%d" % offset,
                "ce_source": b"http://api/clients/bare",
                "bridge_origin": origin.encode(),
            },
            timestamp=round(read * 1000),
        )
        self.seen[0, offset] = read + 0.1

    def gap(self, **changes: Any) -> None:
        """Change what the gap reports."""
        self.gaps["bare"][0] = replace(self.gaps["bare"][0], **changes)

    def judge(self) -> Verdict:
        """Judge it."""
        verdict = Verdict()
        records = list(self.records.values())
        judge_healing(verdict, self.truth, records, self.seen, self.gaps)
        return verdict


def _never_received(jobs: _Jobs) -> None:
    jobs.account.jobs["e"] = _job("e", (98, "processing", True), (104, "done", False))


_JOB_DEFECTS: list[tuple[Callable[[_Jobs], object], str]] = [
    (lambda jobs: jobs.records.pop(3), "it never ended on the topic"),
    (_never_received, "lost, though an event or a webhook reported it"),
    (
        lambda jobs: jobs.seen.update({(0, 3): 170.5}),
        "on the topic 65.5 s later by status-endpoint, 0.5 s too late",
    ),
    (
        lambda jobs: jobs.account.jobs["d"].steps.pop(),
        "job d: done at 0/5, and it runs",
    ),
    (lambda jobs: jobs.say("x", "processing", 90), "job x is at 0/6 and never"),
    (
        lambda jobs: jobs.account.calls.append(Call(111, "a", 429)),
        "was refused 1 calls",
    ),
    (
        lambda jobs: jobs.account.calls.extend(
            Call(111 + number / 10, "z", 200) for number in range(226)
        ),
        "bare asked 226 times in a minute, of 225",
    ),
    (lambda jobs: jobs.gap(until=None), "never closed: gap g"),
    (lambda jobs: jobs.gap(unknown=None), "never resolved: gap g"),
    (
        lambda jobs: jobs.gap(healed=(1, 0)),
        "1 healed by the status endpoint, and it must be 2",
    ),
    (lambda jobs: jobs.gap(unknown=1), "1 unknown, and it must be 0"),
    (lambda jobs: jobs.gap(jobs_in_flight=2), "2 in flight, and it must be 3"),
]


@pytest.mark.parametrize(("harm", "finding"), _JOB_DEFECTS)
def test_each_defect_of_healing_is_found(
    harm: Callable[[_Jobs], object], finding: str
) -> None:
    """Ends that are missing, late or wrong, gaps that miscount, too many calls."""
    jobs = _Jobs()
    harm(jobs)
    findings = jobs.judge().findings
    assert any(finding in line for line in findings), findings


def test_healing_that_is_as_it_should_be_is_let_pass() -> None:
    """Each job is accounted for, and what is lost is what must be."""
    verdict = _Jobs().judge()
    assert verdict.findings == []
    assert verdict.figures["of those in a gap"] == {"status-endpoint": 2}
    assert verdict.figures["jobs not on the topic"] == {"lost": 1}
