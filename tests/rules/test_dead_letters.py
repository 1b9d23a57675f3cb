"""A dead letter holds what it was, why it is one, and where it is missing."""

from __future__ import annotations

import hashlib
from functools import partial

import msgspec

from bridge.events import dead_letter
from bridge.events.record import Envelope, Record, StoredRecord
from tests.outbox.making import judged
from tests.rules.images import data_uri, image
from tests.rules.intake import RECEIVED_AT_US, SOURCE, Outlet, status


STORED = StoredRecord(
    sequence=17,
    ce_id="a1b2-5",
    key=b"job-1",
    value=b'{"request_id":"job-1"}',
    received_at_us=RECEIVED_AT_US,
    envelope=Envelope(
        ce_source=SOURCE,
        ce_type="dev.dryapi.request.status.updated",
        origin="socket",
        content_type="application/json",
    ),
    extra=(("bridge_normalized", b"progress_number"),),
)

LETTER = msgspec.structs.replace(
    STORED.envelope, ce_type="dev.dryapi.bridge.dead-letter"
)


def why(reason: str, stage: str, kind: str, message: str) -> dict[str, bytes]:
    """Give the headers that say why."""
    return {
        "bridge_reason": reason.encode(),
        "__connect.errors.stage": stage.encode(),
        "__connect.errors.exception.class.name": kind.encode(),
        "__connect.errors.exception.message": message.encode(),
    }


def refused(
    stored: StoredRecord = STORED, max_bytes: int = 1000, message: str = "no"
) -> Record:
    """Give the dead letter of a record that the broker refuses."""
    return dead_letter.refused(
        stored,
        topic="jobs",
        partition=3,
        dead_letter_topic="jobs.dlq",
        max_bytes=max_bytes,
        message=message,
        error_class="aiokafka.errors.PolicyViolationError",
    )


def late(*payloads: str, max_bytes: int = 10_000, **options: str) -> list[Record]:
    """Give what becomes of these payloads after the end of their job."""
    make = partial(dead_letter.late, topic="jobs.dlq", max_bytes=max_bytes)
    end = Outlet().accept(status(status="done"))
    return judged(make, end, Outlet(**options).accept(*payloads))


def test_a_record_that_the_broker_refuses() -> None:
    """Key, value, time and headers stay; the place that stays empty is added."""
    kind = "aiokafka.errors.PolicyViolationError"
    letter = refused()
    assert dict(letter.extra) == {
        "bridge_normalized": b"progress_number",
        **why("refused_by_broker", "KAFKA_PRODUCE", kind, "no"),
        "bridge_refused_topic": b"jobs",
        "bridge_refused_partition": b"3",
        "bridge_refused_sequence": b"17",
        "bridge_refused_ce_id": b"a1b2-5",
    }
    assert msgspec.structs.replace(letter, extra=()) == Record(
        topic="jobs.dlq",
        key=b"job-1",
        value=STORED.value,
        received_at_us=STORED.received_at_us,
        envelope=LETTER,
    )
    assert refused(msgspec.structs.replace(STORED, key=None)).key is None
    # A policy's long message doesn't make a header that is refused itself.
    headers = dict(refused(message="x" * 5000).extra)
    assert headers["__connect.errors.exception.message"] == b"x" * 300


def test_a_preview_after_its_job_s_end() -> None:
    """The image is a dead letter, named as one; each refers to the other."""
    data = image("image/jpeg")
    picture, event = late(status(preview=data_uri(data)), previews="topic")
    assert (picture.topic, picture.key, picture.value) == ("jobs.dlq", b"job-1", data)
    assert picture.envelope.content_type == "image/jpeg"
    assert picture.envelope.kind == "preview"
    headers = dict(picture.extra)
    assert headers["bridge_reason"] == b"after_terminal"
    assert headers["__connect.errors.exception.message"] == (
        b"a preview came after the last record of its job"
    )
    assert event.topic == "jobs.dlq"
    digest = hashlib.sha256(data).hexdigest().encode()
    assert headers["bridge_preview_sha256"] == digest
    assert dict(event.extra)["bridge_preview_sha256"] == digest
