"""
The list of published schemas, with an example of each kind of record.

Owns which there are, what they are called and their numbers. What a record holds is
said where its type stands.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bridge.contract.json_schema import PublishedSchema, build
from bridge.job_status import JobStatusRecord
from bridge.recovery.gap import GapCause, GapRecord


__all__ = ["PUBLISHED", "text_of"]

_OPENED: Final = GapRecord(
    gap_id="5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11",
    cause=GapCause.OUTBOX_FULL.value,
    client_id="client-42",
    since="2026-01-31T12:00:00.000000Z",
    until=None,
    duration_seconds=None,
    close_code=None,
    jobs_in_flight=None,
)
_CLOSED: Final = {"until": "2026-01-31T12:00:07.250000Z", "duration_seconds": 7.25}

PUBLISHED: Final = (
    PublishedSchema(
        file_name="job-status.schema.json",
        urn="urn:dryapi-kafka-bridge:job-status:1",
        title="Job status",
        record=JobStatusRecord,
        examples=(
            JobStatusRecord(
                request_id="123e4567-e89b-12d3-a456-426614174000",
                status="in_progress",
                preview="data:image/jpeg;base64,/9j/4AAQSkZJRg==",
                result_url=None,
                progress="45.50",
            ),
            JobStatusRecord(
                request_id="123e4567-e89b-12d3-a456-426614174000",
                status="done",
                preview=None,
                result_url="https://storage.dryapi.dev/results/1.png?signature=abc",
                progress="100.00",
            ),
            JobStatusRecord(
                request_id="9b2f61d0-7c1e-4c55-8f0b-6d7f3a0a2c11",
                status="error",
                preview=None,
                result_url=None,
                progress=None,
                error_code="WORKER_TIMEOUT",
                error_message="The worker did not answer in time.",
            ),
        ),
    ),
    PublishedSchema(
        file_name="gap.schema.json",
        urn="urn:dryapi-kafka-bridge:gap:1",
        title="Gap",
        record=GapRecord,
        examples=(_OPENED, msgspec.structs.replace(_OPENED, **_CLOSED)),
    ),
)


def text_of(name: str) -> str:
    """
    Give the text of a published schema as it stands in `schemas/`.

    It is made from the types, so that whoever needs it at run time (to register it)
    needs no file.

    Args:
        name: The part of its file's name before the dot: `job-status`, `gap`.

    Raises:
        KeyError: No schema has that name.
    """
    for published in PUBLISHED:
        if published.file_name.partition(".")[0] == name:
            return build(published)
    raise KeyError(name)
