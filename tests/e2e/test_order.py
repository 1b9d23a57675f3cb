"""A job's states on the topic: marked where they go back, over once they are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from tests.e2e.jobs import JOB_EVENT
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_dense
from tests.kit.publisher import Event
from tests.kit.reader import Record


def _event(
    request_id: str, status: str, progress: str | None, result_url: str | None = None
) -> str:
    fields = {
        "request_id": request_id,
        "status": status,
        "preview": None,
        "result_url": result_url,
        "progress": progress,
    }
    return json.dumps(fields)


async def _publish(scene: Scene, texts: Sequence[str]) -> None:
    async with scene.soketi.publisher() as publisher:
        for text in texts:
            await publisher.publish_batch(
                [Event(scene.account.channel, JOB_EVENT, text)]
            )


def _marks(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None]]:
    return [(each.value, each.headers.get("bridge_anomaly")) for each in records]


async def test_steps_back_are_marked_and_late_events_are_dead_letters(
    scene: Scene, dryapi: str
) -> None:
    """What a reader of the topic is told, and that it holds over a kill -9."""
    job = str(uuid.uuid4())
    running = [
        _event(job, "processing", "0.00"),
        _event(job, "in_progress", "40.00"),
        _event(job, "in_progress", "40.00"),
        _event(job, "in_progress", "9.50"),
        _event(job, "processing", "0.00"),
    ]
    end = _event(job, "done", "100.00", "https://storage.dryapi.dev/1.png?signature=a")
    late = [_event(job, "in_progress", "90.00"), end]
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    await _publish(scene, running)
    await bridge.wait_metrics(lambda now: now.published == len(running))
    # The job is remembered with all that was told of it.
    bridge.kill()
    await bridge.start_and_wait()
    await _publish(scene, [running[-1], end, late[0]])
    await bridge.wait_metrics(lambda now: now.published == 3)
    # So is its end.
    bridge.kill()
    await bridge.start_and_wait()
    await _publish(scene, [late[1]])
    metrics = await bridge.wait_metrics(lambda now: now.published == 1)
    assert metrics.total("bridge_dlq_records_total", reason="after_terminal") == 1
    assert metrics.total("bridge_events_accepted_total") == 1
    records = await scene.records(len(running) + 2)
    check_dense(records)
    assert _marks(records) == [
        (running[0].encode(), None),
        (running[1].encode(), None),
        (running[2].encode(), b"duplicate"),
        (running[3].encode(), b"regression"),
        (running[4].encode(), b"regression"),
        (running[4].encode(), b"duplicate"),
        (end.encode(), None),
    ]
    letters = await scene.dead_letters(len(late))
    assert [(each.key, each.value) for each in letters] == [
        (job.encode(), text.encode()) for text in late
    ]
    for letter in letters:
        assert letter.headers["bridge_reason"] == b"after_terminal"
        assert letter.headers["ce_type"] == b"dev.dryapi.bridge.dead-letter"
        assert letter.headers["ce_subject"] == job.encode()
        assert letter.headers["__connect.errors.stage"] == b"TRANSFORMATION"
    assert await bridge.stop() == 0


async def test_late_events_can_be_published_instead(scene: Scene, dryapi: str) -> None:
    """With `after_terminal = "publish"` they stand on the topic, marked."""
    job = str(uuid.uuid4())
    texts = [
        _event(job, "in_progress", "40.00"),
        _event(job, "done", "100.00"),
        _event(job, "in_progress", "90.00"),
    ]
    bridge = scene.bridge(dryapi, after_terminal="publish")
    await bridge.start_and_wait()
    await _publish(scene, texts)
    metrics = await bridge.wait_metrics(lambda now: now.published == len(texts))
    assert metrics.total("bridge_anomalies_total", anomaly="regression") == 1
    assert _marks(await scene.records(len(texts))) == [
        (texts[0].encode(), None),
        (texts[1].encode(), None),
        (texts[2].encode(), b"regression"),
    ]
    assert await scene.dead_letters(0) == []
    assert await bridge.stop() == 0
