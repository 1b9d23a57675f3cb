"""The judge of topics: a good scene has no findings, and each rule can fail."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.kit.expected import Counts, Expected, Kind, ReadTopic
from tests.kit.judge import Verdict, home_of, judge
from tests.kit.reader import Record


JOBS, LETTERS, GAPS, PREVIEWS = Kind

_NAMES = {
    JOBS: "jobs",
    LETTERS: "jobs.dlq",
    GAPS: "jobs.gaps",
    PREVIEWS: "jobs.previews",
}
_TYPES = {
    JOBS: b"dev.dryapi.request.status.updated",
    LETTERS: b"dev.dryapi.bridge.dead-letter",
    GAPS: b"dev.dryapi.bridge.gap",
    PREVIEWS: b"dev.dryapi.request.preview",
}
_PARTITIONS = 3
_OUTBOX = "0b6f4c5e-0000-4000-8000-000000000001"
_SOURCE = "https://api.dryapi.dev/clients/c1"
_IMAGE = b"\xff\xd8 an image"
_DIGEST = hashlib.sha256(_IMAGE).hexdigest().encode()
_SECRET = "canary-0123456789"


@dataclass
class Written:
    """Records as they are written, and what is expected; each test spoils its own."""

    topics: dict[Kind, list[Record]] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    written: int = 0

    def write(
        self,
        kind: Kind,
        key: str,
        value: bytes | Mapping[str, Any],
        **headers: str | bytes,
    ) -> None:
        """Write a record as the bridge would."""
        self.written += 1
        records = self.topics.setdefault(kind, [])
        partition = home_of(key.encode(), _PARTITIONS)
        sequence = 1 + sum(record.partition == partition for record in records)
        usual: dict[str, str | bytes] = {
            "ce_specversion": "1.0",
            "ce_id": f"{'a' * 16}-{self.written}",
            "ce_source": _SOURCE,
            "ce_type": _TYPES[kind],
            "ce_time": f"2026-01-31T12:00:00.{self.written:06}Z",
            "ce_subject": key,
            "content-type": "application/json",
            "bridge_outbox": _OUTBOX,
            "bridge_sequence": str(sequence),
            "bridge_origin": "socket",
        }
        records.append(
            Record(
                partition=partition,
                offset=10 * sequence,
                key=key.encode(),
                value=value if isinstance(value, bytes) else json.dumps(value).encode(),
                headers={
                    name.replace("content_type", "content-type"): (
                        text.encode() if isinstance(text, str) else text
                    )
                    for name, text in (usual | headers).items()
                },
                timestamp=1769860800000 + self.written // 1000,
            )
        )

    def spoil(self, kind: Kind, place: int, **changes: Any) -> Self:
        """Change a record."""
        records = self.topics[kind]
        records[place] = replace(records[place], **changes)
        return self

    def headers(self, kind: Kind, place: int, **headers: str | None) -> Self:
        """Change a record's headers; None removes one."""
        there: dict[str, bytes] = dict(self.topics[kind][place].headers)
        for name, text in headers.items():
            there.pop(name.replace("content_type", "content-type"), None)
            if text is not None:
                there[name.replace("content_type", "content-type")] = text.encode()
        self.spoil(kind, place, headers=there)
        return self

    def value(self, kind: Kind, place: int, **members: object) -> Self:
        """Change members of a record's value; "-" removes one."""
        value = json.loads(self.topics[kind][place].value or b"")
        value = {name: each for name, each in (value | members).items() if each != "-"}
        self.spoil(kind, place, value=json.dumps(value).encode())
        return self

    def again(self, kind: Kind, place: int, **headers: str) -> Self:
        """Let a record come once more, behind the others of its partition."""
        record = self.topics[kind][place]
        self.topics[kind].append(replace(record, offset=record.offset + 1000))
        self.headers(kind, -1, **headers)
        return self

    def read(self) -> list[ReadTopic]:
        """Read the topics back."""
        return [
            ReadTopic(
                kind,
                _NAMES[kind],
                sorted(records, key=lambda each: (each.partition, each.offset)),
                [_PARTITIONS],
            )
            for kind, records in self.topics.items()
        ]

    def judged(self) -> Verdict:
        """Judge it."""
        return judge(self.read(), Expected(**self.expected))


def event_of(job: str, status: str, progress: int, **more: object) -> dict[str, Any]:
    """Give a job's event."""
    fields = {"request_id": job, "status": status, "preview": None, "result_url": None}
    return {**fields, "progress": f"{progress}.00", **more}


def gap_of(until: float | None, since: float = 1.0, **more: object) -> dict[str, Any]:
    """Give a record of a gap; times are seconds after noon."""
    return {
        "gap_id": "9c6f4c5e-0000-4000-8000-000000000009",
        "cause": "disconnected",
        "client_id": "c1",
        "since": f"2026-01-31T12:00:{since:09.6f}Z",
        "until": None if until is None else f"2026-01-31T12:00:{until:09.6f}Z",
        "duration_seconds": None if until is None else round(until - since, 6),
        "close_code": 1006,
        "jobs_in_flight": None if until is None else 2,
        **more,
    }


_HEALED = {"healed_by_status_endpoint": 1, "healed_by_webhook": 0, "unknown": 1}


def _good() -> Written:
    """Two jobs, of which the broker refused an event, a preview, and a gap."""
    scene = Written()
    for job in ("job-1", "job-2"):
        scene.write(JOBS, job, event_of(job, "processing", 0))
        scene.write(JOBS, job, event_of(job, "in_progress", 50))
        scene.write(JOBS, job, event_of(job, "done", 100))
    scene.write(
        PREVIEWS,
        "job-1",
        _IMAGE,
        content_type="image/jpeg",
        bridge_preview_sha256=_DIGEST,
    )
    scene.headers(
        JOBS,
        1,
        bridge_preview_sha256=_DIGEST.decode(),
        bridge_normalized="preview_moved",
    )
    refused = event_of("job-3", "done", 100)
    errors = "__connect.errors."
    scene.write(
        LETTERS,
        "job-3",
        refused,
        bridge_reason="refused_by_broker",
        bridge_refused_topic="jobs",
        bridge_refused_partition=str(home_of(b"job-3", _PARTITIONS)),
        # On the partition of job-2.
        bridge_refused_sequence="1",
        bridge_refused_ce_id="b" * 16 + "-1",
        **{
            errors + "stage": "KAFKA_PRODUCE",
            errors + "exception.class.name": "errors.Refused",
            errors + "exception.message": "too large",
        },
    )
    home = home_of(b"job-3", _PARTITIONS)
    for place, record in enumerate(scene.topics[JOBS]):
        if record.partition == home:
            number = int(record.headers["bridge_sequence"]) + 1
            scene.headers(JOBS, place, bridge_sequence=str(number))
    for value in (gap_of(None), gap_of(5), gap_of(5, **_HEALED)):
        scene.write(GAPS, "c1", value)
    accepted: dict[str, list[bytes]] = {"job-3": [json.dumps(refused).encode()]}
    for record in scene.topics[JOBS]:
        accepted.setdefault((record.key or b"").decode(), []).append(
            record.value or b""
        )
    scene.expected = {
        "accepted": accepted,
        "committed": {
            each.headers["ce_id"].decode(): each.value
            for kind in (JOBS, LETTERS, PREVIEWS)
            for each in scene.topics[kind]
        },
        "only_committed": True,
        "marks": {"preview_moved"},
        "headers": {"bridge_preview_sha256"},
        "dead_letters": {"refused_by_broker": 1},
        "gaps": {"c1": ["disconnected"]},
        "sources": {_SOURCE},
        "counts": [Counts(came=8, published=7, dead_lettered=1)],
        "secrets": {_SECRET},
    }
    return scene


def _swap(scene: Written) -> None:
    """Two events of a job change places, their headers stay."""
    first, second = (scene.topics[JOBS][place].value for place in (0, 1))
    scene.spoil(JOBS, 0, value=second)
    scene.spoil(JOBS, 1, value=first)


def _late(scene: Written) -> None:
    """Something comes behind a job's end."""
    scene.write(JOBS, "job-2", event_of("job-2", "error", 100))


def _stray(scene: Written) -> None:
    """A job's last record is on another partition."""
    wrong = (scene.topics[JOBS][2].partition + 1) % _PARTITIONS
    scene.spoil(JOBS, 2, partition=wrong, offset=5000)


_DEFECTS: list[tuple[str, Callable[[Written], object]]] = [
    (
        r"jobs \d/\d+: value: 'result_url' is a required property",
        lambda s: s.value(JOBS, 0, result_url="-"),
    ),
    (
        "headers: 'bridge_origin' is a required property",
        lambda s: s.headers(JOBS, 0, bridge_origin=None),
    ),
    (
        "its key is b'job-9', its subject 'job-1'",
        lambda s: s.spoil(JOBS, 0, key=b"job-9"),
    ),
    ("it contains a secret", lambda s: s.value(JOBS, 0, note=f"?{_SECRET}")),
    (r"repeated: a{16}-1 is at jobs \d/\d+ and jobs", lambda s: s.again(JOBS, 0)),
    (
        r"sequence 3 of 0b6f.* is missing on jobs.gaps \d",
        lambda s: s.headers(GAPS, 2, bridge_sequence="4"),
    ),
    ("sequence 1 is used twice", lambda s: s.headers(GAPS, 1, bridge_sequence="1")),
    (
        "sequence 2 was refused, and is at jobs 0/10",
        lambda s: s.headers(LETTERS, 0, bridge_refused_sequence="2"),
    ),
    ("key job-1 is on two partitions", _stray),
    ("event 0 behind 1 at jobs", _swap),
    ("error at .* after its end jobs", _late),
    (
        "lost: event 2 of job job-1",
        lambda s: s.expected["accepted"]["job-1"].insert(2, b"{}"),
    ),
    (
        "lost: c+-1 was committed",
        lambda s: s.expected["committed"].update({"c" * 16 + "-1": b"x"}),
    ),
    (
        "1 dead letters refused_by_broker, not 0",
        lambda s: s.expected.update(dead_letters={}),
    ),
    ("the preview .* of job job-1 is missing", lambda s: s.topics[PREVIEWS].clear()),
    ("never closed: gap", lambda s: [s.topics[GAPS].pop() for _ in range(2)]),
    (
        r"gaps of c1: \['disconnected'\], not",
        lambda s: s.expected.update(gaps={"c1": ["first_start", "disconnected"]}),
    ),
    (
        "9 came and 8 are accounted for",
        lambda s: s.expected.update(
            counts=[Counts(came=9, published=7, dead_lettered=1)]
        ),
    ),
]


def test_a_good_scene_has_no_findings() -> None:
    """Refusals, previews and gaps included; the gap is given as it was."""
    verdict = _good().judged()
    assert (verdict.findings, verdict.repeats) == ([], [])
    (gap,) = verdict.gaps
    assert (gap.jobs_in_flight, gap.healed, gap.unknown) == (2, (1, 0), 1)
    assert gap.contains(gap.since + 1, gap.since + 4)
    assert not gap.contains(gap.since + 1, gap.since + 5)
    assert gap.covers(gap.since - 1, gap.since, 0.0)
    assert not gap.covers(gap.since - 2, gap.since - 1, 0.5)


def test_each_rule_can_fail() -> None:
    """One defect at a time is found, in the words of its rule."""
    missed = {}
    for finding, spoil in _DEFECTS:
        scene = _good()
        spoil(scene)
        findings = scene.judged().findings
        if not any(re.search(finding, each) for each in findings):
            missed[finding] = findings
    assert not missed
