"""What the verdict finds: one thing is broken in a course without fault, and is named.

What holds for every topic is broken in `tests.kit.test_judge`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.course import Happened
from tests.chaos.faults import FAULTS, named
from tests.chaos.healing import judge_healing
from tests.chaos.load import Emission, Ground, NumberedEvent
from tests.chaos.truth import (
    AccountTruth,
    Call,
    Limits,
    Span,
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
from tests.kit.expected import Kind, ReadTopic
from tests.kit.gap_judge import Gap
from tests.kit.reader import Record


_MIB = 2**20
_ID = "5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a{:02}"


def _record(
    kind: Kind, offset: int, key: str, value: object, at: float, **headers: str
) -> Record:
    """Make a record as the bridge does; `at` is a small number of seconds."""
    letter = "gap" if kind is Kind.GAPS else "request.status.updated"
    usual = {
        "ce_specversion": "1.0",
        "ce_id": f"{'a' * 16}-{offset + 1}",
        "ce_source": "http://api/clients/me",
        "ce_type": f"dev.dryapi.{'bridge.' * (kind is Kind.GAPS)}{letter}",
        "ce_time": _moment(at),
        "ce_subject": key,
        "content-type": "application/json",
        "bridge_outbox": "0b6f4c5e-0000-4000-8000-000000000001",
        "bridge_sequence": str(offset + 1),
        "bridge_origin": "socket",
    }
    return Record(
        partition=0,
        offset=offset,
        key=key.encode(),
        value=json.dumps(value).encode(),
        headers={name: text.encode() for name, text in (usual | headers).items()},
        timestamp=round(at * 1000),
    )


def _moment(at: float) -> str:
    return f"1970-01-01T00:{int(at) // 60:02}:{at % 60:09.6f}Z"


# -- A course -------------------------------------------------------------


@dataclass
class _Course:
    """Ten events of one job, one a second from 100 s on; soketi restarts over 2 to 4.

    The lists may be changed by a test: what is on the topic, what gaps report, what
    happened.
    """

    on_topic: list[int] = field(default_factory=lambda: [0, 1, 5, 6, 7, 8, 9])
    gaps: list[tuple[str, float | None, float | None]] = field(
        default_factory=lambda: [("disconnected", 101.2, 105.0)]
    )
    faults: list[tuple[str, float, float]] = field(
        default_factory=lambda: [("soketi killed", 102.5, 104.5)]
    )
    unsure: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    change: Callable[[list[Record]], object] = len
    samples: list[Sample] = field(default_factory=list)

    def judge(self) -> Verdict:
        """Judge it in all respects."""
        events = [NumberedEvent("j", number, 100.0 + number) for number in range(10)]
        emissions = [Emission(e, e.emitted_at, e.emitted_at + 0.01) for e in events]
        kept = len(emissions) - self.unsure
        records = [
            _record(Kind.JOBS, offset, "j", self._value(number), 100.0 + number)
            for offset, number in enumerate(self.on_topic)
        ]
        self.change(records)
        topics = [
            ReadTopic(Kind.JOBS, "jobs", records, [1]),
            ReadTopic(Kind.GAPS, "jobs.gaps", list(self._ledger()), [1]),
        ]
        faults = [
            Happened(
                name,
                named(name).causes,
                begun,
                ended,
                ended if "soketi" in name else None,
            )
            for name, begun, ended in self.faults
        ]
        ground = Ground(emissions[:kept], emissions[kept:])
        evidence = Evidence(topics, ground, faults, samples=self.samples, **self.more)
        verdict = judge_course(evidence)
        judge_restarts(verdict, evidence)
        judge_growth(verdict, evidence)
        return verdict

    @staticmethod
    def _value(number: int) -> dict[str, object]:
        return {
            "request_id": "j",
            "status": "done" if number == 9 else "in_progress",
            "preview": None,
            "result_url": None,
            "progress": f"{10 * number}.00",
            "number": number,
            "emitted_at": 100.0 + number,
        }

    def _ledger(self) -> Any:
        offset = 0
        for number, (cause, since, until) in enumerate(self.gaps):
            for end in [None] if until is None else [None, until]:
                both = since is not None and end is not None
                value = {
                    "gap_id": _ID.format(number),
                    "cause": cause,
                    "client_id": "me",
                    "since": None if since is None else _moment(since),
                    "until": None if end is None else _moment(end),
                    "duration_seconds": round((end or 0) - (since or 0), 6)
                    if both
                    else None,
                    "close_code": None,
                    "jobs_in_flight": 0,
                }
                opened = 105.0 + number
                record = _record(Kind.GAPS, offset, "me", value, opened)
                record.headers["ce_id"] = b"%s-%d" % (b"b" * 16, offset + 1)
                yield record
                offset += 1


def _sample(at: float, **more: int | None) -> Sample:
    usual: dict[str, Any] = {
        "rss_bytes": 50 * _MIB,
        "descriptors": 20,
        "threads": 3,
        "tasks": 17,
    }
    return Sample(at, **{"pid": 1, **usual, **more})


def _again(**headers: bytes) -> Callable[[list[Record]], None]:
    def change(records: list[Record]) -> None:
        last = records[-1]
        again = replace(last, offset=last.offset + 1, headers=last.headers | headers)
        records.append(again)

    return change


_WHOLE = list(range(10))
_CALM: dict[str, Any] = {"on_topic": _WHOLE, "gaps": [], "faults": []}
_COMMITTED = {
    f"{'a' * 16}-{offset + 1}": NumberedEvent("j", number, 100.0 + number)
    for offset, number in enumerate([0, 1, 5, 6, 7, 8, 9])
}
_ANOTHER = _again(ce_id=b"%s-9" % (b"b" * 16), bridge_sequence=b"11")
_GROWN = {"rss_bytes": 70 * _MIB, "descriptors": 25, "threads": 8, "tasks": 22}
_LEAKING = [_sample(600 - ago, **_GROWN) for ago in (4, 3, 2, 1, 0)]
_ENDING = _sample(601, descriptors=3, threads=1, tasks=None)
_ACCEPTS = [110.0 + 0.95 * number for number in range(12)]
_NAME = "restart 1 (soketi killed)"

_DEFECTS: list[tuple[dict[str, Any], str]] = [
    ({"on_topic": [0, 1, 5, 6, 8, 9]}, "lost in silence: 1 events, the first number 7"),
    ({"on_topic": [0, 1, 9], **_CALM | {"on_topic": [0, 9]}}, "no gap was reported"),
    # A gap that is too short by a tenth of a second.
    ({"gaps": [("disconnected", 102.11, 105.0)]}, "; 0.100 s beside gap 5f0c1c52"),
    ({"gaps": [("disconnected", 101.2, 103.9)]}, "the first number 4"),
    ({"gaps": [("disconnected", 101.2, None)]}, "never closed: gap"),
    # No fault, one that costs no event, one of another cause, one before, one after.
    ({**_CALM, "gaps": [("disconnected", 103, 104)]}, "false: gap"),
    ({"faults": [("kafka killed", 102, 105)]}, "false: gap"),
    ({"gaps": [("crashed", 101.2, 105.0)]}, "false: gap"),
    ({"faults": [("soketi paused", 98, 100)]}, "false: gap"),
    ({"faults": [("soketi paused", 106, 109)]}, "false: gap"),
    (
        {"gaps": [("first_start", None, 99.0), ("first_start", None, 105.0)]},
        "false: gap",
    ),
    ({"change": _again()}, "repeated: aaaaaaaaaaaaaaaa-7 is at"),
    ({"change": _ANOTHER}, "event 9 is there twice"),
    ({"change": _ANOTHER}, "done at jobs 0/7 after its end"),
    ({"unsure": -1, "on_topic": [*_WHOLE, 11]}, "no such event was accepted"),
    ({"more": {"committed": _COMMITTED | {"c-1": "x"}}}, "lost: c-1 was committed"),
    ({"more": {"committed": {}}}, "was never seen in the outbox"),
    ({"more": {"sources": {"http://api/clients/you"}}}, "an unexpected source http://"),
    (
        {
            "more": {
                "committed": dict.fromkeys(_COMMITTED, NumberedEvent("j", 1, 101.0))
            }
        },
        "is another event than was committed",
    ),
    (
        {"more": {"witnessed": (9, [Emission(NumberedEvent("j", 3, 0.0), 1.0, 1.1)])}},
        "soketi dropped 1 of 9 events for a subscriber that listened",
    ),
    ({**_CALM, "faults": [("soketi killed", 102, 104)]}, f"{_NAME} has 0 gaps: none"),
    ({"gaps": 2 * [("disconnected", 101.2, 105.0)]}, f"{_NAME} has 2 gaps: gap"),
    (
        {"gaps": [("disconnected", 101.2, 107.0)]},
        f"{_NAME}: subscribed 2.50 s after soketi was up, after 2.0 s",
    ),
    (
        {
            "faults": [("soketi killed", 102.5, 142.5)],
            "gaps": [("disconnected", 101.2, 175.0)],
        },
        "subscribed 32.50 s after soketi was up, after 40.0 s",
    ),
    ({"more": {"accepts": _ACCEPTS}}, "11 connects within 10 s"),
    ({"samples": [_sample(0), _sample(1, pid=2)]}, "the bridge has lived 2 times"),
    *(
        ({"samples": [_sample(0), _sample(80), *_LEAKING, _ENDING]}, found)
        for found in (
            "memory grew by 20.0 MiB in 520 s",
            "descriptors: 20, then 25",
            "threads: 3, then 8",
            "tasks: 17, then 22",
        )
    ),
]


def test_each_defect_of_a_course_is_found() -> None:
    """Lost and repeated events, false and open gaps, late returns, growth."""
    unfound = []
    for changes, finding in _DEFECTS:
        findings = _Course(**changes).judge().findings
        if not any(finding in line for line in findings):
            unfound.append((changes, finding, findings))
    assert unfound == []


def test_what_is_as_it_should_be_is_let_pass() -> None:
    """What is missing is in a gap that a fault explains; what may be is no finding."""
    busy = [_sample(0), _sample(80), _sample(599), _sample(600, tasks=22)]
    slow = [_sample(0, rss_bytes=1), _sample(80), _sample(600, rss_bytes=61 * _MIB)]
    for changes in (
        {},
        _CALM,
        # Nobody knows whether soketi took it before the request broke.
        {**_CALM, "on_topic": list(range(9)), "unsure": 2},
        {
            "on_topic": [5, 6, 7, 8, 9],
            "gaps": [("first_start", None, 105.0)],
            "faults": [],
        },
        {"change": _again(), "more": {"repeats": True}},
        {"more": {"committed": _COMMITTED, "accepts": _ACCEPTS[:10]}},
        {
            "faults": [("soketi killed", 102.5, 142.5)],
            "gaps": [("disconnected", 101.2, 174.0)],
        },
        {"samples": slow},
        {"samples": busy},
    ):
        assert _Course(**changes).judge().findings == [], changes
    figures = _Course().judge().figures
    assert figures["events on the topic"] == 7
    assert figures["events in a reported gap"] == 3
    assert figures["subscribed after soketi was up"].startswith("within 0.50 s")


def test_the_table_of_faults_is_whole() -> None:
    """Names are unique, and every command but `soak` that draws by chance has rows."""
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    drawn = {command for fault in FAULTS for command in fault.draws}
    assert drawn == {"kills", "brokers", "soak", "restarts", "healing"}


# -- Jobs -----------------------------------------------------------------


def _job(
    name: str, *steps: tuple[float, str, bool], error: str | None = None
) -> UpstreamJob:
    """Make a job: when it was what, and whether soketi took the event."""
    made = []
    for at, status, taken in steps:
        # No event reports a failure.
        begun, ended = (None, None) if status == "error" else (at, at + 0.01)
        made.append(Step(status, at, "0.00", begun, ended, taken))
    return UpstreamJob(name, made, error)


class _Jobs:
    """Jobs beside a gap from 100 to 110.

    `bare` has no webhooks: its job `a` is done within the gap, `c` began and ended in
    it, `d` went on over it, `f` fails in it. `hooked` has: `b` began and failed in it.
    """

    def __init__(self) -> None:
        premium = Limits(225, float("inf"))
        bare = [
            _job("a", (90, "processing", True), (105, "done", False)),
            _job("c", (102, "processing", False), (107, "done", False)),
            _job("d", (95, "processing", True), (120, "done", True)),
            _job("f", (96, "processing", True), (106, "error", False)),
        ]
        hooked = [
            _job("b", (102, "processing", False), (107, "error", False), error="E")
        ]
        # What dryAPI waits between the tries of a webhook, shortened by a hundred.
        waits = (0.6, 1.2, 3.0, 6.0, 18.0, 36.0)
        self.bare = AccountTruth("bare", premium, None, {j.request_id: j for j in bare})
        self.hooked = AccountTruth(
            "hooked", premium, waits, {j.request_id: j for j in hooked}
        )
        self.truth = Truth([self.bare, self.hooked], stale_seconds=20.0)
        gap = Gap("g", "disconnected", "me", 99.5, 110.0, opened=100.1, unknown=0)
        self.gaps = {
            "bare": [replace(gap, jobs_in_flight=3, healed=(2, 0))],
            "hooked": [replace(gap, jobs_in_flight=0, healed=(0, 1))],
        }
        self.records: dict[int, Record] = {}
        self.seen: dict[tuple[int, int], float] = {}
        for name, status, read in (
            ("a", "processing", 90.05),
            ("d", "processing", 95.05),
            ("f", "processing", 96.05),
        ):
            self.say("bare", name, status, read)
        self.say("bare", "a", "done", 110.5, "status-endpoint")
        self.say("bare", "f", "error", 112.0, "status-endpoint")
        self.say("hooked", "b", "error", 107.1, "webhook", seen=117.2, error_code="E")
        self.say("bare", "d", "done", 120.05)

    def say(
        self,
        account: str,
        job: str,
        status: str,
        read: float,
        origin: str = "socket",
        *,
        seen: float | None = None,
        **more: str,
    ) -> None:
        """Write a record."""
        value = {"request_id": job, "status": status, "progress": "0.00"} | more
        offset = max(self.records, default=-1) + 1
        source = f"http://api/clients/{account}"
        self.records[offset] = _record(
            Kind.JOBS, offset, job, value, read, ce_source=source, bridge_origin=origin
        )
        self.seen[0, offset] = read + 0.1 if seen is None else seen

    def gap(self, account: str, **changes: Any) -> None:
        """Change what the gap of an account reports."""
        self.gaps[account][0] = replace(self.gaps[account][0], **changes)

    def judge(self) -> Verdict:
        """Judge it."""
        verdict = Verdict()
        records = list(self.records.values())
        judge_healing(verdict, self.truth, records, self.seen, self.gaps)
        return verdict


def _see(offset: int, at: float) -> Callable[[_Jobs], None]:
    return lambda jobs: jobs.seen.update({(0, offset): at})


def _drop(offset: int) -> Callable[[_Jobs], object]:
    return lambda jobs: jobs.records.pop(offset)


def _gap(account: str, **changes: Any) -> Callable[[_Jobs], None]:
    return lambda jobs: jobs.gap(account, **changes)


def _never_received(jobs: _Jobs) -> None:
    jobs.bare.jobs["e"] = _job("e", (98, "processing", True), (104, "done", False))


def _ends_otherwise(jobs: _Jobs) -> None:
    del jobs.records[4]
    jobs.say("bare", "f", "done", 112.0, "status-endpoint")


def _is_out_of_order(jobs: _Jobs) -> None:
    steps = jobs.bare.jobs["d"].steps
    steps.insert(0, replace(steps[0], progress="5.00"))
    jobs.say("bare", "d", "processing", 118.0, progress="5.00")


def _all(*harms: Callable[[_Jobs], object]) -> Callable[[_Jobs], None]:
    def harm(jobs: _Jobs) -> None:
        for each in harms:
            each(jobs)

    return harm


def _basic(jobs: _Jobs) -> None:
    jobs.bare.limits = Limits(37, 150)


def _calls(
    count: int, begun: float, every: float = 0.0, code: int = 200
) -> Callable[[_Jobs], None]:
    """Let the status endpoint have been called."""

    def call(jobs: _Jobs) -> None:
        jobs.bare.calls += [Call(begun + n * every, "z", code) for n in range(count)]

    return call


def _later(since: float, until: float, **changes: Any) -> Callable[[_Jobs], None]:
    """Let another gap follow."""

    def add(jobs: _Jobs) -> None:
        gap = Gap("h", "disconnected", "me", since, until, opened=since + 0.2)
        usual: dict[str, Any] = {"jobs_in_flight": 0, "healed": (0, 0), "unknown": 0}
        jobs.gaps["bare"].append(replace(gap, **usual | changes))

    return add


def _status_fails(jobs: _Jobs) -> None:
    jobs.truth.status_faults.append(Span(115.0, 125.0))


def _another_runs(jobs: _Jobs) -> None:
    jobs.bare.limits = Limits(1, 150)
    jobs.bare.jobs["n"] = _job("n", (110.6, "processing", True))
    jobs.say("bare", "n", "processing", 110.6)


def _fail_without_gap(jobs: _Jobs) -> None:
    jobs.bare.jobs["a"] = _job("a", (90, "processing", True), (111, "error", False))
    del jobs.records[3]
    jobs.say("bare", "a", "error", 111.5, "status-endpoint")
    jobs.gap("bare", healed=(1, 0))


def _be_stale(jobs: _Jobs) -> None:
    jobs.bare.jobs["s"] = _job("s", (111, "processing", True), (112, "error", False))
    jobs.say("bare", "s", "processing", 111.05)


def _unknown(jobs: _Jobs) -> None:
    jobs.gap("bare", healed=(1, 0), unknown=1)


def _end_at_the_edge(jobs: _Jobs) -> None:
    jobs.bare.jobs["a"].steps[-1].at = 109.95


def _restart(begun: float, ended: float) -> Callable[[_Jobs], object]:
    return lambda jobs: jobs.truth.bridge_away.append(Span(begun, ended))


def _webhook_after_the_gap(jobs: _Jobs) -> None:
    jobs.records[5] = replace(jobs.records[5], timestamp=110_500)
    jobs.seen[0, 5] = 117.5
    jobs.gap("hooked", healed=(0, 0))


_JOB_DEFECTS: list[tuple[Callable[[_Jobs], object], str]] = [
    (_drop(3), "job a of bare, done at 105.000 in gap g (disconnected"),
    (_drop(5), "job b of hooked, error at 107.000 in gap g"),
    (_drop(3), "it never ended on the topic"),
    (_never_received, "lost, though an event or a webhook reported it"),
    (_see(3, 170.5), "on the topic 65.5 s later by status-endpoint, 0.5 s too late"),
    (_see(3, float("inf")), "inf s too late"),
    (_see(5, 170.5), "by webhook, 0.5 s too late"),
    (_ends_otherwise, "job f: done at 0/7, and it is error"),
    (lambda jobs: jobs.bare.jobs["d"].steps.pop(), "job d: done at 0/6, and it runs"),
    (
        lambda jobs: setattr(jobs.hooked.jobs["b"], "error_code", "X"),
        "error_code 'E' at 0/5, and it is 'X'",
    ),
    (_is_out_of_order, "('processing', '5.00') at 0/7 was no event, or not in"),
    (lambda jobs: jobs.say("bare", "x", "processing", 90), "job x is at 0/7 and never"),
    (lambda jobs: jobs.say("other", "x", "done", 90), "records of other, which is no"),
    (lambda jobs: jobs.bare.calls.append(Call(111, "a", 429)), "was refused 1 calls"),
    (_calls(226, 111, 0.1), "bare asked 226 times in a minute, of 225"),
    (_all(_basic, _calls(151, 111, 10)), "bare asked 151 times, of 150"),
    (
        lambda jobs: setattr(jobs.hooked, "undelivered", 1),
        "1 webhooks of hooked never got 2xx",
    ),
    (_gap("bare", until=None), "never closed: gap g"),
    (_gap("bare", healed=None), "never resolved: gap g"),
    (_gap("bare", unknown=None), "never resolved: gap g"),
    (_gap("bare", healed=(1, 0)), "1 healed by the status endpoint, and it must be 2"),
    (_gap("bare", healed=(3, 0)), "3 healed by the status endpoint, and it must be 2"),
    (_gap("bare", healed=(2, 1)), "1 healed by webhook, and it must be 0"),
    (_gap("bare", unknown=1), "1 unknown, and it must be 0"),
    (_gap("bare", jobs_in_flight=2), "2 in flight, and it must be 3"),
    (_gap("bare", jobs_in_flight=4), "4 in flight, and it must be 3"),
    (_gap("hooked", healed=(0, 0)), "0 healed by webhook, and it must be 1"),
    (_gap("hooked", healed=(0, 2)), "2 healed by webhook, and it must be 1"),
    (
        _gap("hooked", healed=(1, 1)),
        "1 healed by the status endpoint, and it must be 0",
    ),
    # Calls are left; or the gap doesn't say so.
    (_all(_drop(3), _unknown), "it never ended on the topic"),
    (
        _all(_drop(3), _basic, _calls(150, -248, 2)),
        "2 healed by the status endpoint, and it must",
    ),
    # Three are in flight at the end of the gap: with 34 others they fill a minute.
    (_all(_basic, _calls(34, 105, code=503), _see(3, 170.5)), "0.5 s too late"),
    (_all(_basic, _calls(35, 105, code=503), _see(3, 230.5)), "0.5 s too late"),
    (_all(_basic, _calls(72, 105, code=503), _see(3, 290.5)), "0.5 s too late"),
    # Three, and one of a later gap, with one call a minute.
    (
        _all(_another_runs, _later(111, 113, jobs_in_flight=3), _see(3, 352.5)),
        "0.5 s too late",
    ),
    # Time in which the endpoint fails or a gap lasts is no time.
    (_all(_status_fails, _later(120, 140), _see(3, 195.5)), "0.5 s too late"),
    # No event and no gap reports it: twenty seconds of silence, and the minute.
    (_all(_fail_without_gap, _see(7, 191.5)), "0.5 s too late"),
    # A quarter of the day's calls is for stale jobs; later gaps ask with theirs.
    (_all(_basic, _calls(35, -248, 2), _be_stale), "it never ended on the topic"),
    (
        _all(_basic, _calls(40, -248, 2), _be_stale, _later(130, 140)),
        "it never ended on the",
    ),
    # Its webhook was tried at 107, 107.6, 108.8 and 111.8.
    (_all(_restart(100.0, 110.0), _see(5, 172.0)), "0.2 s too late"),
    # A process knows no gap that was resolved before it began.
    (_all(_webhook_after_the_gap, _restart(118.0, 119.0)), "0 healed by webhook, and"),
]

_PASSING: list[Callable[[_Jobs], object]] = [
    _all(),
    _all(_webhook_after_the_gap, _restart(111.0, 119.0)),
    _all(_basic, _calls(150, -248, 2), _drop(3), _unknown),
    _all(_basic, _calls(40, -248, 2), _be_stale),
    # Two clocks were read: which of two numbers is right is not known.
    _end_at_the_edge,
    _all(_end_at_the_edge, _gap("bare", healed=(1, 0))),
]


def test_each_defect_of_healing_is_found() -> None:
    """Ends that are missing, late or wrong, gaps that miscount, too many calls."""
    unfound = []
    for harm, finding in _JOB_DEFECTS:
        jobs = _Jobs()
        harm(jobs)
        findings = jobs.judge().findings
        if not any(finding in line for line in findings):
            unfound.append((finding, findings))
    assert unfound == []


def test_healing_that_is_as_it_should_be_is_let_pass() -> None:
    """Each job is accounted for, and what is lost or unknown is what must be."""
    wrong = []
    for number, harm in enumerate(_PASSING):
        jobs = _Jobs()
        harm(jobs)
        wrong += [(number, line) for line in jobs.judge().findings]
    assert wrong == []
    figures = _Jobs().judge().figures
    assert figures["of those in a gap"] == {"status-endpoint": 2, "webhook": 1}
    assert figures["jobs not on the topic"] == {"lost": 1}
