"""
What becomes of an event that conforms, or could be made to.

Owns the result of `parse` and the closed vocabulary of what was changed. What
becomes of the others is `bridge.errors.InvalidEventError`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


__all__ = ["Change", "JobStatus"]


class Change(StrEnum):
    """
    What was changed of an event: a word in `bridge_normalized`.

    A closed vocabulary, also a metric's label; new words are added at the end.
    """

    DATA_NOT_STRING = "data_not_string"
    """The frame's `data` was a JSON object instead of a string that holds one."""

    DUPLICATE_KEY = "duplicate_key"
    """A key stood more than once in an object: the last one won."""

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
    """`preview` became null: it stands on the topic of previews."""

    PREVIEW_INVALID = "preview_invalid"
    """`preview` became null: it is no image and became a dead letter alone."""

    PREVIEW_TOO_LARGE = "preview_too_large"
    """`preview` became null: with it the event, or it alone, was too large."""

    PREVIEW_TYPE = "preview_type"
    """A preview's `content-type` is what its bytes are: it was called another one."""


class JobStatus(msgspec.Struct, frozen=True, gc=False):
    """
    One job status that conforms to the published form.

    Attributes:
        request_id: The job, 1 to 256 characters without control characters.
        key: The same as UTF-8: the record's key.
        status: One of `published.STATUSES`.
        value: The JSON that goes to Kafka: the bytes as they came where they
            conform, else the normalised form.
        normalized: What was changed, in the order of `Change`; mostly empty.
        has_preview: Whether the preview is more than null.
        progress: The percentage done as the value has it; None if it says nothing.
    """

    request_id: str
    key: bytes
    status: str
    value: bytes
    normalized: tuple[Change, ...] = ()
    has_preview: bool = False
    progress: str | None = None
