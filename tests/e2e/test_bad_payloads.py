"""Payloads that aren't job statuses: dead letters, while the stream goes on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess
from tests.kit.reader import Record
from tests.kit.soketi import SoketiServer


_ID = "123e4567-e89b-12d3-a456-426614174000"
_JSON = b"application/json"
_BYTES = b"application/octet-stream"

# Some rows of docs/consume/records.md; tests/test_inputs.py has all: data, reason, key,
# content type.
_TEXTS: list[tuple[str, bytes, bytes | None, bytes]] = [
    ("no JSON at all", b"not_json", None, _BYTES),
    (f'{{"request_id": "{_ID}", "status": ', b"not_json", _ID.encode(), _BYTES),
    ("null", b"not_an_object", None, _JSON),
    ('{"request_id": 7, "status": "done"}', b"missing_request_id", None, _JSON),
    (
        f'{{"request_id": "{_ID}", "status": "dreaming"}}',
        b"unknown_status",
        _ID.encode(),
        _JSON,
    ),
]


def _check_errors(letter: Record) -> None:
    headers = letter.headers
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
    async with scene.load() as load:
        for text, *_ in _TEXTS:
            await scene.publish([text])
            await load.run_together([job(1)])
    await _settled(bridge, load.count + len(_TEXTS))
    metrics = await bridge.metrics()
    counts = Counter(reason.decode() for _, reason, *_ in _TEXTS)
    letters = (await scene.end(dead_letters=counts)).dead_letters
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
        _check_errors(letter)
    for reason, count in counts.items():
        assert metrics.total("bridge_dlq_records_total", reason=reason) == count


@pytest.fixture
def soketi() -> Iterator[SoketiServer]:
    """A soketi that lets events of 8 MB through instead of 100 KB."""
    with SoketiServer(options={"eventLimits.maxPayloadInKb": 8192}) as server:
        yield server


@pytest.mark.slow
async def test_an_event_of_5_mb_is_cut_and_told(scene: Scene, dryapi: str) -> None:
    """Its first part is kept, with the size and hash of all of it."""
    url = "https://storage.dryapi.example/" + "A" * 5_000_000
    event = {"request_id": _ID, "status": "done", "result_url": url}
    text = json.dumps(event)
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(3)])
        await scene.publish([text])
        # Behind more than 1 MiB that waits to be sent, soketi drops what comes.
        await _settled(bridge, load.count + 1)
        await load.run_together([job(3)])
    await _settled(bridge, load.count + 1)
    (letter,) = (await scene.end(dead_letters={"too_large": 1})).dead_letters
    _check_errors(letter)
    headers = letter.headers
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
