"""Previews on their way: with their event, nowhere, or on a topic of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from tests.conftest import Topic
from tests.e2e.jobs import JOB_EVENT
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_dense, read
from tests.kit.broker import KafkaBroker
from tests.kit.publisher import Event


_NO_IMAGE = "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()


def _jpeg(shade: int) -> bytes:
    out = BytesIO()
    Image.new("L", (64, 64), shade).save(out, "JPEG")
    return out.getvalue()


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


async def _publish(scene: Scene, texts: list[str]) -> None:
    async with scene.soketi.publisher() as publisher:
        for text in texts:
            event = Event(scene.account.channel, JOB_EVENT, text)
            await publisher.publish_batch([event])


@pytest.fixture
def preview_topic(kafka: KafkaBroker, topic: Topic) -> Iterator[str]:
    """The topic of previews beside the test's own topic."""
    name = f"{topic.name}.previews"
    kafka.create_topic(name, topic.partitions, {"cleanup.policy": "compact"})
    yield name
    kafka.delete_topics(name)


async def test_previews_go_to_a_topic_of_their_own(
    scene: Scene, dryapi: str, preview_topic: str
) -> None:
    """The image's bytes stand there; the event refers to them by key and digest."""
    job = str(uuid.uuid4())
    images = [_jpeg(10), _jpeg(200)]
    uris = [
        f"data:image/jpeg;base64,{base64.b64encode(each).decode()}" for each in images
    ]
    texts = _texts(job, [*uris, _NO_IMAGE])
    bridge = scene.bridge(dryapi, previews="topic")
    await bridge.start_and_wait()
    await _publish(scene, texts)
    # Four events, two images, and what is no image.
    metrics = await bridge.wait_metrics(lambda now: now.published == 7)
    assert metrics.total("bridge_events_accepted_total") == len(texts)
    assert metrics.total("bridge_previews_accepted_total") == len(images)
    name = "bridge_dlq_records_total"
    assert metrics.total(name, reason="invalid_preview") == metrics.total(name) == 1

    records = await scene.records(len(texts))
    check_dense(records)
    for record, text in zip(records, texts, strict=True):
        assert record.value is not None
        assert json.loads(record.value) == {**json.loads(text), "preview": None}
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

    previews = await read(scene.kafka, preview_topic, len(images))
    check_dense(previews)
    assert [each.value for each in previews] == images
    for preview, digest in zip(previews, digests, strict=True):
        headers = preview.headers
        assert preview.key == headers["ce_subject"] == job.encode()
        assert headers["bridge_preview_sha256"] == digest
        assert headers["content-type"] == b"image/jpeg"
        assert headers["ce_type"] == b"dev.dryapi.request.preview"
    # A job's previews stand where its events do: the topics can be joined.
    assert {each.partition for each in previews} == {records[0].partition}

    (letter,) = await scene.dead_letters(1)
    assert (letter.key, letter.value) == (job.encode(), _NO_IMAGE.encode())
    assert letter.headers["bridge_reason"] == b"invalid_preview"
    assert await bridge.stop() == 0
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["waiting"] == stopped["dropped"] == 0


async def test_previews_can_be_left_out(scene: Scene, dryapi: str) -> None:
    """With `previews = "drop"` nothing else of an event changes, and it says so."""
    job = str(uuid.uuid4())
    uri = f"data:image/jpeg;base64,{base64.b64encode(_jpeg(99)).decode()}"
    texts = _texts(job, [uri])
    bridge = scene.bridge(dryapi, previews="drop")
    await bridge.start_and_wait()
    await _publish(scene, texts)
    await bridge.wait_metrics(lambda now: now.published == len(texts))
    first, last = await scene.records(len(texts))
    without = texts[0].replace(json.dumps(uri), "null")
    assert (first.value, last.value) == (without.encode(), texts[1].encode())
    assert first.headers["bridge_normalized"] == b"preview_omitted"
    assert "bridge_normalized" not in last.headers
    assert await bridge.stop() == 0


async def test_a_missing_topic_of_previews_is_named(scene: Scene, dryapi: str) -> None:
    """A start without it ends with what to do."""
    bridge = scene.bridge(dryapi, previews="topic", kafka_start_timeout_seconds=5)
    bridge.start()
    sentence = await bridge.wait_refusal(4)
    assert f"{scene.topic.name}.previews" in sentence
    assert "kafka.create_topics" in sentence
