"""
The list of published schemas.

Owns which there are, what they are called and their numbers. What a record holds is
said where its type stands.
"""

from __future__ import annotations

from typing import Final

from bridge.contract import examples
from bridge.contract.dead_letter_headers import DeadLetterHeaders
from bridge.contract.headers import GapHeaders, JobStatusHeaders, PreviewHeaders
from bridge.contract.json_schema import PublishedSchema, build
from bridge.events.job_status import JobStatusRecord
from bridge.gaps.gap import GapRecord


__all__ = ["PUBLISHED", "text_of"]

PUBLISHED: Final = (
    PublishedSchema(
        "job-status", 1, "Job status", JobStatusRecord, examples.JOB_STATUSES
    ),
    PublishedSchema(
        "job-status-headers",
        1,
        "Headers of a job status",
        JobStatusHeaders,
        examples.JOB_STATUS_HEADERS,
    ),
    PublishedSchema(
        "dead-letter-headers",
        1,
        "Headers of a dead letter",
        DeadLetterHeaders,
        examples.DEAD_LETTER_HEADERS,
    ),
    PublishedSchema("gap", 1, "Gap", GapRecord, examples.GAPS),
    PublishedSchema(
        "gap-headers", 1, "Headers of a gap", GapHeaders, examples.GAP_HEADERS
    ),
    PublishedSchema(
        "preview-headers",
        1,
        "Headers of a preview",
        PreviewHeaders,
        examples.PREVIEW_HEADERS,
    ),
)


def text_of(name: str) -> str:
    """
    Give the text of a published schema as it stands in `schemas/`.

    It is made from the types, so that whoever needs it at run time (to register it)
    needs no file.

    Args:
        name: The schema's: `job-status`, `gap`.

    Raises:
        KeyError: No schema has that name.
    """
    return build({published.name: published for published in PUBLISHED}[name])
