"""Dead letters as bridges write them, for real topics and without one."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from bridge.kafka.reader import ConsumedRecord
from tests.conftest import Topic
from tests.kit import writer
from tests.kit.writer import NOW_MS, Sent


__all__ = ["NOW_MS", "SOURCE", "Sent", "consumed", "payload", "sent", "write"]

SOURCE = "https://api.example.org/clients/client-7"

_numbers = itertools.count(1)


def payload(job: str, status: str = "done", **more: object) -> bytes:
    """Make a conforming payload."""
    rest = {"preview": None, "result_url": None, "progress": None}
    return json.dumps({"request_id": job, "status": status, **rest, **more}).encode()


def sent(
    value: bytes,
    reason: str = "invalid_field",
    *,
    key: str | None = None,
    message: str = "progress is an array, not a string, a number or null",
    timestamp_ms: int = NOW_MS,
    partition: int = 0,
    ce_id: str | None = None,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> Sent:
    """Make a dead letter with all the headers that a bridge writes."""
    seconds, thousandths = divmod(timestamp_ms, 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": (ce_id or f"00112233445566aa-{next(_numbers)}").encode(),
        "ce_source": SOURCE.encode(),
        "ce_type": b"dev.dryapi.bridge.dead-letter",
        "ce_time": f"{moment}.{thousandths:03d}123Z".encode(),
        "content-type": b"application/json",
        "bridge_outbox": b"0b6f4c5e-0000-4000-8000-000000000001",
        "bridge_sequence": b"1",
        "bridge_origin": b"socket",
        "bridge_reason": reason.encode(),
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"bridge.errors.InvalidEventError",
        "__connect.errors.exception.message": message.encode(),
    }
    return Sent(
        value,
        key.encode() if key is not None else None,
        headers | dict(more),
        timestamp_ms,
        partition,
    )


def write(topic: Topic, letters: Iterable[Sent], *, name: str | None = None) -> None:
    """Write records in their order, to the dead letters or to another topic."""
    writer.write(topic.bootstrap_servers, name or topic.dead_letter, letters)


def consumed(letter: Sent, offset: int = 0, topic: str = "jobs.dlq") -> ConsumedRecord:
    """Make of it what a reader of the topic gets."""
    return ConsumedRecord(
        topic,
        letter.partition,
        offset,
        letter.timestamp_ms,
        letter.key,
        letter.value,
        dict(letter.headers),
    )
