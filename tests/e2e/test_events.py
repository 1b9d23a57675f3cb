"""Events on their way to Kafka: all of them, previews apart, and the order of a job."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Sequence

import pytest

from bridge.sandbox.jobs import paint
from tests.e2e.jobs import data_uri, job, jpeg
from tests.e2e.scene import EARLY_CRASH, Scene, without_preview
from tests.kit.reader import Record


_NO_IMAGE = "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()


def _texts(request_id: str, previews: list[str]) -> list[str]:
    """Give a job's events: one for each preview, and its end."""
    fields: dict[str, str | None] = {"request_id": request_id, "result_url": None}
    texts = [
        json.dumps(
            {
                **fields,
                "status": "in_progress",
                "preview": preview,
                "progress": f"{10 * number}.00",
            }
        )
        for number, preview in enumerate(previews, 1)
    ]
    end = {**fields, "status": "done", "preview": None, "progress": "100.00"}
    return [*texts, json.dumps(end)]


async def test_previews_go_to_a_topic_of_their_own(
    scene: Scene,
    dryapi: str,
    preview_topic: str,
) -> None:
    """The image's bytes are there; the event refers to them by key and digest."""
    job = str(uuid.uuid4())
    images = [jpeg(10), jpeg(200)]
    uris = [data_uri(each) for each in images]
    texts = _texts(job, [*uris, _NO_IMAGE])
    bridge = scene.bridge(dryapi, previews="topic")
    await bridge.start_and_wait()
    await scene.publish(texts)
    # Four events, two images, and what isn't one.
    metrics = await bridge.wait_metrics(lambda now: now.published == 7)
    assert metrics.total("bridge_events_accepted_total") == len(texts)
    assert metrics.total("bridge_previews_accepted_total") == len(images)
    name = "bridge_dlq_records_total"
    assert metrics.total(name, reason="invalid_preview") == metrics.total(name) == 1

    ending = await scene.end(
        label=without_preview,
        dead_letters={"invalid_preview": 1},
        marks={"preview_moved", "preview_invalid"},
        headers={"bridge_preview_sha256"},
    )
    records = ending.jobs
    digests = [hashlib.sha256(each).hexdigest().encode() for each in images]
    assert [each.headers.get("bridge_preview_sha256") for each in records] == [
        *digests,
        None,
        None,
    ]
    assert [each.headers.get("bridge_normalized") for each in records] == [
        b"preview_moved",
        b"preview_moved",
        b"preview_invalid",
        None,
    ]

    assert [each.value for each in ending.previews] == images
    # A job's previews are where its events are: the topics can be joined.
    assert {each.partition for each in ending.previews} == {records[0].partition}
    for preview in ending.previews:
        assert preview.headers["content-type"] == b"image/jpeg"
    (letter,) = ending.dead_letters
    assert (letter.key, letter.value) == (job.encode(), _NO_IMAGE.encode())


@pytest.mark.slow
async def test_previews_can_be_left_out(scene: Scene, dryapi: str) -> None:
    """With `previews = "drop"` nothing else of an event changes, and it says so."""
    job = str(uuid.uuid4())
    uri = data_uri(jpeg(99))
    texts = _texts(job, [uri])
    bridge = scene.bridge(dryapi, previews="drop")
    await bridge.start_and_wait()
    await scene.publish(texts)
    await bridge.wait_metrics(lambda now: now.published == len(texts))
    ending = await scene.end(label=without_preview, marks={"preview_omitted"})
    first, last = ending.jobs
    without = json.dumps(
        {**json.loads(texts[0]), "preview": None}, separators=(",", ":")
    )
    assert (first.value, last.value) == (without.encode(), texts[1].encode())
    assert first.headers["bridge_normalized"] == b"preview_omitted"
    assert "bridge_normalized" not in last.headers


async def test_every_event_arrives_once_in_order_and_as_designed(
    scene: Scene, dryapi: str
) -> None:
    """60 jobs at once, 2,400 events, 240 previews: the topic holds just them."""
    previews = [
        stage
        for picture in paint(80_000).previews
        for stage in picture
        if 20_000 <= len(stage) <= 90_000
    ]
    assert max(map(len, previews)) > 70_000
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    began_ms = time.time_ns() // 1_000_000
    async with scene.load(bridge) as load:
        shown = [
            [previews[(number + step) % len(previews)] for step in range(4)]
            for number in range(60)
        ]
        await load.run_together([job(38, each) for each in shown])
    assert load.count == 2_400
    metrics = await bridge.wait_metrics(lambda now: now.published >= load.count)
    assert metrics.read == metrics.committed == metrics.published == load.count
    ending = await scene.end()
    ended_ms = time.time_ns() // 1_000_000
    assert all(began_ms <= record.timestamp <= ended_ms for record in ending.jobs)
    assert {record.partition for record in ending.jobs} == set(
        range(scene.topic.partitions)
    )


def _event(request_id: str, status: str, progress: str) -> str:
    url = "https://storage.dryapi.dev/1.png?signature=a" if status == "done" else None
    fields = {"request_id": request_id, "status": status, "preview": None}
    return json.dumps({**fields, "result_url": url, "progress": progress})


def _marks(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None]]:
    return [(each.value, each.headers.get("bridge_anomaly")) for each in records]


async def test_steps_back_are_marked_and_late_events_are_dead_letters(
    scene: Scene, dryapi: str
) -> None:
    """A reader of the topic can distinguish them, and that outlives a kill -9."""
    job = str(uuid.uuid4())
    running = [
        _event(job, "processing", "0.00"),
        _event(job, "in_progress", "40.00"),
        _event(job, "in_progress", "40.00"),
        _event(job, "in_progress", "9.50"),
        _event(job, "processing", "0.00"),
    ]
    end = _event(job, "done", "100.00")
    late = [_event(job, "in_progress", "90.00"), end]
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    await scene.publish(running)
    await bridge.wait_metrics(lambda now: now.published == len(running))
    # The job is remembered with all that was read of it.
    bridge.kill()
    await bridge.start_and_wait()
    await scene.publish([running[-1], end, late[0]])
    await bridge.wait_metrics(lambda now: now.published == 3)
    # So is its end.
    bridge.kill()
    await bridge.start_and_wait()
    await scene.publish([late[1]])
    metrics = await bridge.wait_metrics(lambda now: now.published == 1)
    assert metrics.total("bridge_dlq_records_total", reason="after_terminal") == 1
    assert metrics.total("bridge_events_accepted_total") == 1
    ending = await scene.end(
        gaps=["first_start", EARLY_CRASH, EARLY_CRASH],
        dead_letters={"after_terminal": 2},
        marks={"duplicate", "regression"},
    )
    assert _marks(ending.jobs) == [
        (running[0].encode(), None),
        (running[1].encode(), None),
        (running[2].encode(), b"duplicate"),
        (running[3].encode(), b"regression"),
        (running[4].encode(), b"regression"),
        (running[4].encode(), b"duplicate"),
        (end.encode(), None),
    ]
    assert [each.value for each in ending.dead_letters] == [
        text.encode() for text in late
    ]
    for letter in ending.dead_letters:
        assert letter.headers["__connect.errors.stage"] == b"TRANSFORMATION"


@pytest.mark.slow
async def test_late_events_can_be_published_instead(scene: Scene, dryapi: str) -> None:
    """With `after_terminal = "publish"` they are on the topic, marked."""
    job = str(uuid.uuid4())
    texts = [
        _event(job, "in_progress", "40.00"),
        _event(job, "done", "100.00"),
        _event(job, "in_progress", "90.00"),
    ]
    bridge = scene.bridge(dryapi, after_terminal="publish")
    await bridge.start_and_wait()
    await scene.publish(texts)
    metrics = await bridge.wait_metrics(lambda now: now.published == len(texts))
    assert metrics.total("bridge_anomalies_total", anomaly="regression") == 1
    ending = await scene.end(marks={"regression"})
    assert _marks(ending.jobs) == [
        (texts[0].encode(), None),
        (texts[1].encode(), None),
        (texts[2].encode(), b"regression"),
    ]
