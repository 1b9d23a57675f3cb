"""
The form of a job status that the bridge publishes, and the result of parsing one.

Owns the published type, from which `schemas/job-status.schema.json` is generated, the
rules that a type can't express (patterns), and the closed vocabulary of changes.
"""

from __future__ import annotations

import re
from enum import StrEnum
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
    "Change",
    "JobStatus",
    "JobStatusRecord",
    "Progress",
    "RequestId",
    "Status",
]

Status = Literal["processing", "in_progress", "done", "error"]

STATUSES: Final[tuple[str, ...]] = get_args(Status)

# A job's last record has one of these.
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

# In `extra_json_schema`, not in `pattern`: msgspec would call `re.search` for each,
# and `$` would let a trailing newline through.
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
    One status of one job, as dryAPI reported it.

    What upstream did not send is null. Other members pass through as upstream sent
    them. Keys are unique, text is valid Unicode, numbers fit a double.
    """

    request_id: RequestId
    status: Annotated[
        Status,
        Meta(
            description=(
                "The job's status: `processing` (a worker has it), `in_progress`"
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


class Change(StrEnum):
    """
    A change that was made to an event: a word in `bridge_normalized`.

    A closed vocabulary, also a metric's label; new words are added at the end.
    """

    DATA_NOT_STRING = "data_not_string"
    """The frame's `data` was a JSON object instead of a string that holds one."""

    DUPLICATE_KEY = "duplicate_key"
    """An object had the same key more than once: the last one won."""

    INVALID_UNICODE = "invalid_unicode"
    """A surrogate without its other half became U+FFFD."""

    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    """A number that no double can hold (1e999) became null."""

    MISSING_FIELD = "missing_field"
    """`preview`, `result_url` or `progress` was left out and became null."""

    PROGRESS_NUMBER = "progress_number"
    """`progress` was a JSON number and became a decimal string."""

    ENCODED_TWICE = "encoded_twice"
    """`data` held a JSON string that holds the object."""

    PREVIEW_DROPPED = "preview_dropped"
    """`preview` became null, because there was no room for all events."""

    PREVIEW_OMITTED = "preview_omitted"
    """`preview` became null, because the setting `previews` is `drop`."""

    PREVIEW_MOVED = "preview_moved"
    """`preview` became null: it is a record on the topic of previews."""

    PREVIEW_INVALID = "preview_invalid"
    """`preview` became null: it isn't an image and became a dead letter of its own."""

    PREVIEW_TOO_LARGE = "preview_too_large"
    """`preview` became null: with it the event, or its image, was too large."""

    PREVIEW_TYPE = "preview_type"
    """A preview's `content-type` is what its bytes are, not what the data URI named."""


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    """
    One job status that conforms to the published form.

    Attributes:
        request_id: The job, 1 to 256 characters without control characters.
        key: The same as UTF-8: the record's key.
        status: One of `STATUSES`.
        value: The JSON for Kafka: the event's own bytes where they conform, else the
            normalized form.
        normalized: What was changed, in the order of `Change`; mostly empty.
        has_preview: Whether the preview is more than null.
        progress: The percentage done as the value has it; None if it has none.
    """

    request_id: str
    key: bytes
    status: str
    value: bytes
    normalized: tuple[Change, ...] = ()
    has_preview: bool = False
    progress: str | None = None
