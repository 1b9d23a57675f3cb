"""A dead letter tells what it was, why it is one, and where it is missing."""

from __future__ import annotations

import hashlib

import msgspec

from bridge import dead_letter
from bridge.record import Envelope, Importance, Record, StoredRecord


STORED = StoredRecord(
    sequence=17,
    ce_id="a1b2-5",
    key=b"job-1",
    value=b'{"request_id":"job-1"}',
    received_at_us=1_700_000_000_000_001,
    envelope=Envelope(
        ce_source="https://api.dryapi.dev/clients/42",
        ce_type="dev.dryapi.request.status.updated",
        origin="socket",
        content_type="application/json",
    ),
    extra=(("bridge_normalized", b"progress_number"),),
)

OF_DEAD_LETTERS = msgspec.structs.replace(
    STORED.envelope, ce_type="dev.dryapi.bridge.dead-letter"
)


def refused(stored: StoredRecord, max_bytes: int = 1000, message: str = "no") -> Record:
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


def test_refused_record_keeps_what_it_was_and_names_its_place() -> None:
    """Key, value, time and headers stay; topic, partition and number are added."""
    assert refused(STORED) == Record(
        topic="jobs.dlq",
        key=b"job-1",
        value=STORED.value,
        received_at_us=STORED.received_at_us,
        envelope=OF_DEAD_LETTERS,
        extra=(
            ("bridge_normalized", b"progress_number"),
            ("bridge_reason", b"refused_by_broker"),
            ("__connect.errors.stage", b"KAFKA_PRODUCE"),
            (
                "__connect.errors.exception.class.name",
                b"aiokafka.errors.PolicyViolationError",
            ),
            ("__connect.errors.exception.message", b"no"),
            ("bridge_refused_topic", b"jobs"),
            ("bridge_refused_partition", b"3"),
            ("bridge_refused_sequence", b"17"),
            ("bridge_refused_ce_id", b"a1b2-5"),
        ),
    )


def test_refused_record_without_a_key_has_none() -> None:
    """A key is not invented."""
    assert refused(msgspec.structs.replace(STORED, key=None)).key is None


def test_refused_record_above_the_limit_keeps_its_first_part() -> None:
    """What is too large for the dead letters too is cut, with its size and digest."""
    record = refused(STORED, max_bytes=10)
    assert record.value == STORED.value[:10]
    assert record.envelope.content_type == "application/octet-stream"
    assert record.extra[-3:] == (
        ("bridge_truncated", b"true"),
        ("bridge_original_size", str(len(STORED.value)).encode()),
        ("bridge_sha256", hashlib.sha256(STORED.value).hexdigest().encode()),
    )


def test_message_of_a_broker_is_cut() -> None:
    """A policy's long sentence makes no header that is refused itself."""
    headers = dict(refused(STORED, message="x" * 5000).extra)
    assert headers["__connect.errors.exception.message"] == b"x" * 300


def test_dead_letters_of_an_account_share_their_envelope() -> None:
    """Many of them cost one envelope, for those who know envelopes by identity."""
    assert refused(STORED).envelope is refused(STORED).envelope


def test_a_late_record_keeps_what_it_was_and_tells_of_no_job() -> None:
    """Key, bytes, time and headers stay; its job has ended, and stays so."""
    record = Record(
        "jobs",
        b"job-1",
        STORED.value,
        STORED.received_at_us,
        STORED.envelope,
        STORED.extra,
        Importance.TERMINAL,
        "error",
        "45.50",
    )
    letter = dead_letter.late(record, topic="jobs.dlq", max_bytes=1000)
    assert letter == Record(
        topic="jobs.dlq",
        key=b"job-1",
        value=STORED.value,
        received_at_us=STORED.received_at_us,
        envelope=OF_DEAD_LETTERS,
        extra=(
            ("bridge_normalized", b"progress_number"),
            ("bridge_reason", b"after_terminal"),
            ("__connect.errors.stage", b"TRANSFORMATION"),
            (
                "__connect.errors.exception.class.name",
                b"bridge.errors.LateEventError",
            ),
            (
                "__connect.errors.exception.message",
                b"error came after the last record of its job",
            ),
        ),
    )
    cut = dead_letter.late(record, topic="jobs.dlq", max_bytes=5)
    assert cut.value == STORED.value[:5]
    assert ("bridge_truncated", b"true") in cut.extra
