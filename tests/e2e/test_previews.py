"""Previews on their way: with their event, nowhere, or on a topic of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid

import pytest

from tests.e2e.jobs import data_uri, jpeg
from tests.e2e.scene import Scene, without_preview


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
    """The image's bytes stand there; the event refers to them by key and digest."""
    job = str(uuid.uuid4())
    images = [jpeg(10), jpeg(200)]
    uris = [data_uri(each) for each in images]
    texts = _texts(job, [*uris, _NO_IMAGE])
    bridge = scene.bridge(dryapi, previews="topic")
    await bridge.start_and_wait()
    await scene.publish(texts)
    # Four events, two images, and what is no image.
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
