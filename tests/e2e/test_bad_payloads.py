"""Payloads that are no job status: dead letters, while the stream goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from tests.e2e.jobs import JOB_EVENT, job
from tests.e2e.scene import Account, Scene
from tests.e2e.topic_records import by_key, check_dense
from tests.kit.bridge_process import BridgeProcess
from tests.kit.publisher import Publisher
from tests.kit.reader import Record
from tests.kit.soketi import SoketiServer


_ID = "123e4567-e89b-12d3-a456-426614174000"
_JSON = b"application/json"
_BYTES = b"application/octet-stream"

# data, reason, key, content type
_TEXTS: list[tuple[str, bytes, bytes | None, bytes]] = [
    ("no JSON at all", b"not_json", None, _BYTES),
    (f'{{"request_id": "{_ID}", "status": ', b"not_json", _ID.encode(), _BYTES),
    ("[1, 2, 3]", b"not_an_object", None, _JSON),
    ('"text"', b"not_an_object", None, _JSON),
    ("null", b"not_an_object", None, _JSON),
    ('{"status": "done"}', b"missing_request_id", None, _JSON),
    ('{"request_id": 7, "status": "done"}', b"missing_request_id", None, _JSON),
    (
        f'{{"request_id": "{_ID}", "status": "dreaming"}}',
        b"unknown_status",
        _ID.encode(),
        _JSON,
    ),
    (
        f'{{"request_id": "{_ID}", "status": "done", "preview": 1}}',
        b"invalid_field",
        _ID.encode(),
        _JSON,
    ),
    ("[" * 100 + "]" * 100, b"too_deep", None, _BYTES),
]

_HEADERS = {
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "content-type",
    "bridge_outbox",
    "bridge_sequence",
    "bridge_origin",
    "bridge_reason",
    "__connect.errors.stage",
    "__connect.errors.exception.class.name",
    "__connect.errors.exception.message",
}
_CUT_HEADERS = {"bridge_truncated", "bridge_original_size", "bridge_sha256"}


async def _publish_raw(publisher: Publisher, account: Account, data: Any) -> None:
    """Publish a `data` member of any type, not only a string that holds JSON."""
    message = {"name": JOB_EVENT, "channel": account.channel, "data": data}
    await publisher._post("events", message)


def _check_headers(letter: Record, more: Collection[str] = ()) -> None:
    expected = (
        _HEADERS | set(more) | ({"ce_subject"} if letter.key is not None else set())
    )
    headers = letter.headers
    assert headers.keys() == expected
    assert headers.get("ce_subject") == letter.key
    assert headers["ce_type"] == b"dev.dryapi.bridge.dead-letter"
    assert headers["__connect.errors.stage"] == b"VALUE_CONVERTER"
    kind = headers["__connect.errors.exception.class.name"]
    assert kind == b"bridge.errors.InvalidEventError"
    assert headers["__connect.errors.exception.message"]


async def _settled(bridge: BridgeProcess, events: int) -> None:
    await bridge.wait_metrics(lambda now: now.published == events)


async def test_each_kind_goes_to_the_dead_letters_with_its_bytes_and_a_reason(
    scene: Scene, dryapi: str
) -> None:
    """Original bytes, the job's key where one is found, and the stream goes on."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load, scene.soketi.publisher() as publisher:
        for text, *_ in _TEXTS:
            await _publish_raw(publisher, scene.account, text)
            await load.run_together([job(1)])
        await _settled(bridge, load.count + len(_TEXTS))
        found = by_key(await scene.records(load.count))
        assert found == load.accepted
    letters = await scene.dead_letters(len(_TEXTS))
    check_dense(letters)
    assert [
        (
            letter.value,
            letter.headers["bridge_reason"],
            letter.key,
            letter.headers["content-type"],
        )
        for letter in letters
    ] == [(text.encode(), *rest) for text, *rest in _TEXTS]
    for letter in letters:
        _check_headers(letter)
    metrics = await bridge.metrics()
    for reason in {reason for _, reason, *_ in _TEXTS}:
        count = sum(each == reason for _, each, *_ in _TEXTS)
        name = "bridge_dlq_records_total"
        assert metrics.total(name, reason=reason.decode()) == count
    assert await bridge.stop() == 0


async def test_data_that_is_no_string_is_taken_or_told(
    scene: Scene, dryapi: str
) -> None:
    """An object becomes a record that says so; anything else is a dead letter."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    status = {"request_id": _ID, "status": "in_progress", "progress": 45.5}
    async with scene.soketi.publisher() as publisher:
        await _publish_raw(publisher, scene.account, status)
        await _publish_raw(publisher, scene.account, 5)
        await _publish_raw(publisher, scene.account, [status])
    await _settled(bridge, 3)
    (record,) = await scene.records(1)
    assert record.value is not None
    assert json.loads(record.value) == {
        **status,
        "progress": "45.50",
        "preview": None,
        "result_url": None,
    }
    changes = record.headers["bridge_normalized"]
    assert changes == b"data_not_string,missing_field,progress_number"
    number, array = await scene.dead_letters(2)
    assert number.value == b"5"
    assert array.value is not None
    assert json.loads(array.value) == [status]
    for letter in (number, array):
        _check_headers(letter)
        assert letter.headers["bridge_reason"] == b"not_an_object"
    assert await bridge.stop() == 0


@pytest.fixture
def soketi() -> Iterator[SoketiServer]:
    """A soketi that lets events of 8 MB through instead of 100 KB."""
    with SoketiServer(options={"eventLimits.maxPayloadInKb": 8192}) as server:
        yield server


async def test_an_event_of_5_mb_is_cut_and_told(scene: Scene, dryapi: str) -> None:
    """Its first part is kept, with the size and hash of all of it."""
    url = "https://storage.dryapi.example/" + "A" * 5_000_000
    event = {"request_id": _ID, "status": "done", "result_url": url}
    text = json.dumps(event)
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load, scene.soketi.publisher() as publisher:
        await load.run_together([job(3)])
        await _publish_raw(publisher, scene.account, text)
        # Behind more than 1 MiB that waits to be sent, soketi drops what comes.
        await _settled(bridge, load.count + 1)
        await load.run_together([job(3)])
        await _settled(bridge, load.count + 1)
        assert by_key(await scene.records(load.count)) == load.accepted
    (letter,) = await scene.dead_letters(1)
    _check_headers(letter, _CUT_HEADERS)
    headers = letter.headers
    assert headers["bridge_reason"] == b"too_large"
    assert letter.key == _ID.encode()
    assert headers["content-type"] == _BYTES
    assert headers["bridge_truncated"] == b"true"
    assert headers["bridge_original_size"] == b"%d" % len(text)
    assert (
        headers["bridge_sha256"].decode() == hashlib.sha256(text.encode()).hexdigest()
    )
    assert letter.value is not None
    assert len(letter.value) > 900_000
    assert text.encode().startswith(letter.value)
    assert await bridge.stop() == 0
