"""A load of previews: seeded, growing sharper, whole in Kafka under each setting."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from io import BytesIO

import pytest
from PIL import Image

from benchmarks.preview_load import EVENTS_A_JOB, PREVIEWS_A_JOB, PreviewLoad
from benchmarks.preview_runs import Codec, Previews, Result, run
from benchmarks.previews import report
from tests.benchmarks.runs import MACHINE
from tests.kit.broker import KafkaBroker
from tests.kit.kafka import KafkaServer


_SMALL = PreviewLoad(4_000, 12)


def _payloads(load: PreviewLoad) -> list[dict[str, str | None]]:
    return [json.loads(json.loads(text)["data"]) for text in load.messages()]


def _jpeg(preview: str) -> bytes:
    head, _, body = preview.partition(",")
    assert head == "data:image/jpeg;base64"
    return base64.b64decode(body, validate=True)


def test_each_job_grows_sharper_and_none_shows_what_another_one_does() -> None:
    """Ten events in order, eight of them JPEGs of one size that take more and more."""
    jobs = defaultdict(list)
    for payload in _payloads(_SMALL):
        jobs[payload["request_id"]].append(payload)

    assert len(jobs) == _SMALL.jobs
    seen = set()
    for events in jobs.values():
        assert len(events) == EVENTS_A_JOB
        assert [event["status"] for event in events] == [
            "processing",
            *["in_progress"] * PREVIEWS_A_JOB,
            "done",
        ]
        previews = [event["preview"] for event in events[1:-1]]
        jpegs = [_jpeg(preview) for preview in previews if preview is not None]
        assert len(jpegs) == PREVIEWS_A_JOB
        assert len({Image.open(BytesIO(jpeg)).size for jpeg in jpegs}) == 1
        assert len(jpegs[-1]) == max(map(len, jpegs))
        seen.update(jpegs)
    assert len(seen) == _SMALL.jobs * PREVIEWS_A_JOB


def test_the_seed_decides() -> None:
    """Ids and the place of everything follow from it."""
    ids = [payload["request_id"] for payload in _payloads(_SMALL)]

    assert [payload["request_id"] for payload in _payloads(_SMALL)] == ids
    other = _payloads(PreviewLoad(4_000, 12, seed=7))
    assert not set(ids) & {payload["request_id"] for payload in other}


def test_all_arrives_and_its_bytes_are_counted(kafka: KafkaBroker) -> None:
    """Moved or dropped previews leave the jobs' topic, and zstd makes it smaller."""
    if not isinstance(kafka, KafkaServer):
        pytest.skip("the files of somebody else's broker aren't here")
    messages = _SMALL.messages()

    def sent(previews: Previews, codec: Codec) -> Result:
        result = run(kafka, _SMALL, messages, previews, codec)
        assert result.flaws == ()
        assert min(result.seconds, result.cpu_seconds) > 0
        return result

    inline, compressed = sent("inline", "none"), sent("inline", "zstd")
    dropped, moved = sent("drop", "none"), sent("topic", "none")

    assert inline.job_bytes > sum(len(text) for text in messages) * 0.9
    assert compressed.job_bytes < 0.9 * inline.job_bytes
    assert inline.image_bytes == compressed.image_bytes == dropped.image_bytes == 0
    assert dropped.job_bytes < moved.job_bytes < inline.job_bytes
    # Images are three quarters of their base64.
    assert 0.6 < moved.disk_bytes / inline.disk_bytes < 1


def _result(previews: Previews, codec: Codec, job: int, image: int = 0) -> Result:
    return Result(20_000, previews, codec, 100, 10_000, job, image, 0.5, 0.01, 0.02)


def test_shares_are_of_what_inline_takes_without_codec() -> None:
    """Both topics count, and medians are taken of each kind alone."""
    results = [
        _result("inline", "none", 20_000),
        _result("topic", "zstd", 1_000, 9_000),
        _result("inline", "none", 20_000),
        _result("topic", "zstd", 2_000, 13_000),
    ]

    lines = report(MACHINE, results).splitlines()

    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    inline = ["inline", "none", "200", "0", "200", "100.0%"]
    assert [cells[:6] for cells in found if cells[:1] == ["inline"]] == [inline]
    moved = ["topic", "zstd", "15", "110", "125", "62.5%"]
    assert [cells[:6] for cells in found if cells[:1] == ["topic"]] == [moved]
    assert "- 2 interleaved runs: median (lowest, highest)" in lines
