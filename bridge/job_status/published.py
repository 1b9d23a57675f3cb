"""
The strict form that the bridge promises to the readers of `jobs`.

Owns the published type, from which `schemas/job-status.schema.json` is made, and
the rules that a type alone can't say (patterns). Nothing tolerant belongs here.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType


__all__ = [
    "MAX_PROGRESS_CHARACTERS",
    "MAX_REQUEST_ID_CHARACTERS",
    "PROGRESS",
    "REQUEST_ID",
    "STATUSES",
    "TERMINAL_STATUSES",
    "JobStatusRecord",
    "Progress",
    "RequestId",
    "Status",
]

Status = Literal["processing", "in_progress", "done", "error"]

STATUSES: Final[tuple[str, ...]] = get_args(Status)

# After one of these nothing more is expected of a job.
TERMINAL_STATUSES: Final = frozenset({"done", "error"})

# Upstream documents a UUID (36 characters); the rest is room for other schemes
# that keeps keys small.
MAX_REQUEST_ID_CHARACTERS: Final = 256

# Upstream documents "45.50". 32 leave room for every digit of a double between
# 0 and 100 and keep a reader's decimal type small.
MAX_PROGRESS_CHARACTERS: Final = 32

# Both are searched by JSON Schema validators and matched whole by the bridge.
_REQUEST_ID_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_PROGRESS_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?$"

REQUEST_ID: Final = re.compile(_REQUEST_ID_PATTERN)
PROGRESS: Final = re.compile(_PROGRESS_PATTERN)

# Patterns stand in `extra_json_schema`, not in `pattern`: msgspec would call
# `re.search` for each, and `$` would let a trailing newline through.
RequestId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_REQUEST_ID_CHARACTERS,
        description="The job. Upstream sends a UUID. Also the record's key.",
        examples=["123e4567-e89b-12d3-a456-426614174000"],
        extra_json_schema={"pattern": _REQUEST_ID_PATTERN},
    ),
]
Progress = Annotated[
    str,
    Meta(
        max_length=MAX_PROGRESS_CHARACTERS,
        extra_json_schema={"pattern": _PROGRESS_PATTERN},
    ),
]


class JobStatusRecord(msgspec.Struct, frozen=True, gc=False):
    """
    One status of one job, as dryAPI told it.

    What upstream did not say is null. Members beside these pass through as upstream
    sent them. Keys are unique, text is valid Unicode, numbers fit a double.
    """

    request_id: RequestId
    status: Annotated[
        Status,
        Meta(
            description=(
                "Where the job stands: `processing` (a worker has it), `in_progress`"
                " (many times), then `done` or `error`."
            ),
            examples=["in_progress"],
        ),
    ]
    preview: Annotated[
        str | None,
        Meta(
            description=(
                "A preview of the image so far, base64 as a data URI; image jobs only."
            ),
            examples=["data:image/jpeg;base64,/9j/4AAQSkZJRg==", None],
        ),
    ]
    result_url: Annotated[
        str | None,
        Meta(
            description=(
                "A signed download URL, only with `done`; it expires after about a day."
            ),
            examples=["https://storage.dryapi.dev/results/1.png?signature=abc", None],
        ),
    ]
    progress: Annotated[
        Progress | None,
        Meta(
            description="The percentage done, as a decimal string.",
            examples=["45.50", None],
        ),
    ]
    error_code: Annotated[
        str | UnsetType | None,
        Meta(
            description="Why the job failed, for programs; only with `error`.",
            examples=["WORKER_TIMEOUT"],
        ),
    ] = UNSET
    error_message: Annotated[
        str | UnsetType | None,
        Meta(
            description="Why the job failed, for people; only with `error`.",
            examples=["The worker did not answer in time."],
        ),
    ] = UNSET
