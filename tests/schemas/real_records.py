"""One of each record that the bridge can write, made by the code that writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import trio
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: TID251 - keeps what the bridge makes
    InMemorySpanExporter,
)

from bridge.consumer.dead_letters import as_letter
from bridge.consumer.replay import shaper
from bridge.events import dead_letter
from bridge.events import header_names as names
from bridge.events.intake import strip_preview
from bridge.events.record import Origin, Record, StoredRecord
from bridge.gaps.gap import GapCause
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.reader import ConsumedRecord
from bridge.settings import Settings
from bridge.tracing import Tracing
from tests.gaps.books import NOW_US, Books
from tests.outbox.making import judged
from tests.rules.images import KINDS, data_uri, image
from tests.rules.intake import Outlet, status


_WRITER = HeaderWriter("0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b")
_DEAD_LETTERS = "jobs.dlq"
_JPEG = image("image/jpeg")


class Written(msgspec.Struct, frozen=True):
    """A record as it is on its topic."""

    topic: str
    headers: dict[str, str]
    value: bytes


def _events() -> Iterator[object]:
    """Give payloads of all kinds: conforming, to be changed, to be refused."""
    deep = "[" * 70 + "]" * 70
    yield status(status="processing", progress=None)
    yield status(preview=data_uri(_JPEG))
    yield json.loads(status())
    yield json.dumps(status())
    yield status(progress=45.5)
    yield status()[:-1] + ',"progress":"1.00"}'
    yield status(result_url="\ud800")
    yield status()[:-1] + ',"x":1e999}'
    yield '{"request_id":"job-1","status":"done"}'
    yield status(status="error", error_code="WORKER_TIMEOUT", error_message=None)
    yield "nothing"
    yield "[]"
    yield "{}"
    yield status(status="paused")
    yield status(preview=5)
    yield status(x="x" * 5000)
    yield status(preview="x" * 5000)
    yield status()[:-1] + f',"x":{deep}}}'


def _of_events() -> Iterator[Record]:
    """Give what the intake makes of them, under each setting of `previews`."""
    small: dict[str, Any] = {"max_value_bytes": 4000, "max_dead_letter_bytes": 3000}
    for how in ("inline", "drop", "topic"):
        outlet = Outlet(previews=how, preview_topic="jobs.previews", **small)
        yield from outlet.accept(*_events())
    for kind in KINDS:
        yield from outlet.accept(status(preview=data_uri(image(kind))))
    mislabelled = data_uri(_JPEG, "image/png")
    yield from outlet.accept(status(preview=mislabelled))
    yield from outlet.accept(status(preview="no image"))
    tight = Outlet(previews="topic", preview_topic="jobs.previews", max_preview_bytes=2)
    yield from tight.accept(status(preview=data_uri(_JPEG)))
    for origin in (Origin.STATUS_ENDPOINT, Origin.WEBHOOK):
        yield from Outlet(origin=origin).accept(status())
    (inline,) = Outlet().accept(status(preview=data_uri(_JPEG)))
    light = strip_preview(inline)
    assert light is not None
    yield light


def _of_traced_events() -> Iterator[Record]:
    """Give an event, its preview and a dead letter of a bridge that makes spans."""
    outlet = Outlet(previews="topic", preview_topic="jobs.previews")
    records = outlet.accept(status(preview=data_uri(_JPEG)), "nothing")
    traced: list[Record] = []
    tracing = Tracing("bridge", InMemorySpanExporter())
    tracing.offering(traced.extend)(records)
    trio.run(_shut_down, tracing)
    yield from traced


async def _shut_down(tracing: Tracing) -> None:
    with trio.move_on_after(0):
        await tracing.run()


def _of_gaps() -> Iterator[Record]:
    """Give a gap of each cause when it opens and when it closes."""
    books = Books("42")
    for cause in GapCause:
        gap_id = books.ledger.open("42", cause, NOW_US, close_code=1006)
        books.ledger.close(gap_id, NOW_US + 1)
    books.jobs_in_flight["42"] = 3
    books.ledger.open("42", GapCause.STOPPED, None)
    yield from books.records


def _of_the_broker(stored: StoredRecord, topic: str) -> Iterator[Record]:
    """Give the dead letters of a record that the broker refuses."""
    for max_bytes in (1_000_000, 10):
        yield dead_letter.refused(
            stored,
            topic=topic,
            partition=3,
            dead_letter_topic=_DEAD_LETTERS,
            max_bytes=max_bytes,
            message="too large",
            error_class="aiokafka.errors.MessageSizeTooLargeError",
        )


def _replayed(letter: Record) -> Iterator[Record]:
    """Give what a replay makes of a dead letter whose bytes are an event."""
    headers = dict(_WRITER.headers(_stored(letter)))
    consumed = ConsumedRecord(
        _DEAD_LETTERS, 0, 17, 0, letter.key, letter.value, headers
    )
    settings = Settings(topic="jobs", previews="topic")
    shaped = shaper(settings, _DEAD_LETTERS)(as_letter(consumed))
    assert not isinstance(shaped, str)
    yield from shaped.records


def _of_order(max_bytes: int) -> Iterator[Record]:
    """Give what the outbox makes of a job's events out of order, and after its end."""
    outlet = Outlet()
    step = status(preview=data_uri(_JPEG), progress="50.00")
    events = [step, step, status(progress=40), status(status="done", result_url="u")]
    records = outlet.accept(*events, step, status(progress=41))
    late = partial(dead_letter.late, topic=_DEAD_LETTERS, max_bytes=max_bytes)
    yield from judged(late, list(records))


def _records() -> Iterator[Record]:
    """Give them all: what comes first, and what becomes of it later."""
    first = [
        *_of_events(),
        *_of_traced_events(),
        *_of_gaps(),
        *_of_order(1_000_000),
        *_of_order(10),
    ]
    for record in first:
        yield record
        if record.topic != _DEAD_LETTERS:
            yield from _of_the_broker(_stored(record), record.topic)
            continue
        headers = dict(record.extra)
        is_late = headers[names.BRIDGE_REASON] == b"after_terminal"
        # One that was cut isn't an event any more.
        if is_late and names.BRIDGE_TRUNCATED not in headers:
            for replayed in _replayed(record):
                yield replayed
                yield from _of_the_broker(_stored(replayed), replayed.topic)


def _stored(record: Record) -> StoredRecord:
    """Give a record as the relay gets it."""
    return StoredRecord(
        sequence=17,
        ce_id="5f0c1c526a2f4c53-17",
        key=record.key,
        value=record.value,
        received_at_us=record.received_at_us,
        envelope=record.envelope,
        extra=record.extra,
    )


def written() -> Iterator[Written]:
    """Give each record as it is on its topic: first, sent again, with a prefix."""
    for record in _records():
        is_json = record.envelope.content_type == names.JSON_CONTENT
        for how in ({}, {"is_resent": True}, {"is_framed": True} if is_json else {}):
            headers = _WRITER.headers(_stored(record), **how)
            by_name = {name: value.decode() for name, value in headers}
            assert len(by_name) == len(headers), "a header occurs twice"
            subject = None if record.key is None else record.key.decode()
            assert by_name.get(names.CE_SUBJECT) == subject
            yield Written(record.topic, by_name, record.value)
