"""A job's states on the topic: marked where they go back, over once they are."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

import pytest

from tests.e2e.scene import EARLY_CRASH, Scene
from tests.kit.reader import Record


def _event(request_id: str, status: str, progress: str) -> str:
    url = "https://storage.dryapi.dev/1.png?signature=a" if status == "done" else None
    fields = {"request_id": request_id, "status": status, "preview": None}
    return json.dumps({**fields, "result_url": url, "progress": progress})


def _marks(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None]]:
    return [(each.value, each.headers.get("bridge_anomaly")) for each in records]


async def test_steps_back_are_marked_and_late_events_are_dead_letters(
    scene: Scene, dryapi: str
) -> None:
    """A reader of the topic can tell them apart, and that outlives a kill -9."""
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
