"""
What a gap is, and its record on `jobs.gaps`.

`schemas/gap.schema.json` is generated from `GapRecord`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bridge.events.record import Origin


__all__ = ["TIME_SCHEMA", "Gap", "GapCause", "GapRecord"]

_US_PER_SECOND: Final = 1_000_000

# Where a gap counts the jobs of an origin.
_COUNTED_AS: Final = {
    Origin.STATUS_ENDPOINT: "healed_by_status_endpoint",
    Origin.WEBHOOK: "healed_by_webhook",
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# A time in records and headers, in JSON Schema.
TIME_SCHEMA: Final = {
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
    "format": "date-time",
}


class GapCause(StrEnum):
    """Why events may have been missed: a closed vocabulary, also a metric's label."""

    FIRST_START = "first_start"
    STOPPED = "stopped"
    CRASHED = "crashed"
    DISCONNECTED = "disconnected"
    DEAF = "deaf"
    REFUSED = "refused"
    SUSPENDED = "suspended"
    OVERFLOW = "overflow"
    OUTBOX_FULL = "outbox_full"
    OUTBOX_DAMAGED = "outbox_damaged"

    @property
    def is_loss(self) -> bool:
        """Whether the outbox lost received events; otherwise none were received."""
        return self in _LOSSES


_LOSSES: Final = frozenset(
    {GapCause.OVERFLOW, GapCause.OUTBOX_FULL, GapCause.OUTBOX_DAMAGED}
)

_Moment = Annotated[datetime, Meta(tz=True)]
_Time = Annotated[str, Meta(extra_json_schema=TIME_SCHEMA)]
_Count = Annotated[int, Meta(ge=0)]


class GapRecord(msgspec.Struct, frozen=True):
    """
    One interval in which events of one account may have been missed.

    A gap is written when it opens, with `until` null, again with the same `gap_id` when
    it closes, and again when it is resolved: when the end of its jobs is known, or
    can't be learned. What is learned later is written again. Members may be added.
    """

    gap_id: Annotated[
        str,
        Meta(
            description="Which gap: the same in all of its records; a UUID.",
            examples=["5f0c1c52-6a2f-4c53-9d35-0d8f2f6f7a11"],
            extra_json_schema={"format": "uuid"},
        ),
    ]
    cause: Annotated[
        str,
        Meta(
            description="Why events may have been missed: a closed list.",
            examples=["outbox_full"],
            extra_json_schema={"enum": [cause.value for cause in GapCause]},
        ),
    ]
    client_id: Annotated[
        str,
        Meta(
            description="Whose events. Also the record's key.", examples=["client-42"]
        ),
    ]
    since: Annotated[
        _Time | None,
        Meta(
            description=(
                "What was sent before this moment had arrived. Null if nothing is known"
                " of the time before. A later record may name an earlier moment."
            ),
            examples=["2026-01-31T12:00:00.000000Z", None],
        ),
    ]
    until: Annotated[
        _Time | None,
        Meta(
            description=(
                "What is sent from this moment on arrives, or lies in another gap. Null"
                " while the gap is open."
            ),
            examples=["2026-01-31T12:00:07.250000Z", None],
        ),
    ]
    duration_seconds: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="From `since` to `until`; null where one of them is.",
            examples=[7.25, None],
        ),
    ]
    close_code: Annotated[
        int | None,
        Meta(
            description=(
                "The WebSocket close code that ended the connection; null without one."
            ),
            examples=[1006, None],
        ),
    ]
    jobs_in_flight: Annotated[
        _Count | None,
        Meta(
            description=(
                "How many jobs were known to be unfinished when the gap opened, or when"
                " it closed. Null if neither is known."
            ),
            examples=[3, None],
        ),
    ]
    healed_by_status_endpoint: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "How many jobs ended in the gap and were recovered through the status"
                " endpoint. Absent until the gap is resolved."
            ),
            examples=[2],
        ),
    ] = UNSET
    healed_by_webhook: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "How many were recovered through a webhook. It includes jobs that"
                " started in the gap. Absent until the gap is resolved."
            ),
            examples=[1],
        ),
    ] = UNSET
    unknown: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "How many jobs in flight have an unknown end. A later record may have a"
                " lower number. Absent until the gap is resolved."
            ),
            examples=[0],
        ),
    ] = UNSET


class Gap(msgspec.Struct, frozen=True):
    """A gap as the bridge works with it; times are microseconds since the epoch."""

    gap_id: str
    cause: GapCause
    client_id: str
    since_us: int | None
    until_us: int | None = None
    close_code: int | None = None
    jobs_in_flight: int | None = None
    # Of this many jobs so far, resolved or not.
    healed_by_status_endpoint: int = 0
    healed_by_webhook: int = 0
    # Of how many the end is unknown; None until the gap is resolved.
    unknown: int | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether the end of its jobs is known, or known to be unknown."""
        return self.unknown is not None

    @property
    def duration_seconds(self) -> float | None:
        """Its length, never below zero: the clock may have been set back."""
        if self.since_us is None or self.until_us is None:
            return None
        return max(0, self.until_us - self.since_us) / _US_PER_SECOND

    def published(self) -> GapRecord:
        """Return its record on `jobs.gaps`."""
        outcome = {}
        if self.unknown is not None:
            outcome = {
                "healed_by_status_endpoint": self.healed_by_status_endpoint,
                "healed_by_webhook": self.healed_by_webhook,
                "unknown": self.unknown,
            }
        return GapRecord(
            gap_id=self.gap_id,
            cause=self.cause.value,
            client_id=self.client_id,
            since=_time(self.since_us),
            until=_time(self.until_us),
            duration_seconds=self.duration_seconds,
            close_code=self.close_code,
            jobs_in_flight=self.jobs_in_flight,
            **outcome,
        )

    def covers(self, moment_us: int | None, now_us: int = 0) -> bool:
        """Whether a known moment lies in it; an open one lasts until `now_us`."""
        if moment_us is None:
            return False
        until_us = now_us if self.until_us is None else self.until_us
        return (self.since_us or 0) <= moment_us <= until_us

    def healed(self, origin: Origin) -> Gap:
        """
        Count one more job whose end was learned after all.

        Args:
            origin: `STATUS_ENDPOINT` or `WEBHOOK`.

        Raises:
            KeyError: Another origin.
        """
        name = _COUNTED_AS[origin]
        return msgspec.structs.replace(self, **{name: getattr(self, name) + 1})

    def encode(self) -> bytes:
        """Return the JSON of its record."""
        return msgspec.json.encode(self.published())

    @classmethod
    def decode(cls, value: bytes) -> Gap:
        """
        Decode a record's JSON.

        Raises:
            ValueError: It isn't a gap's record, or is one of a later version.
        """
        record = msgspec.json.decode(value, type=GapRecord)
        return cls(
            gap_id=record.gap_id,
            cause=GapCause(record.cause),
            client_id=record.client_id,
            since_us=_microseconds(record.since),
            until_us=_microseconds(record.until),
            close_code=record.close_code,
            jobs_in_flight=record.jobs_in_flight,
            healed_by_status_endpoint=record.healed_by_status_endpoint or 0,
            healed_by_webhook=record.healed_by_webhook or 0,
            unknown=None if record.unknown is UNSET else record.unknown,
        )


def _microseconds(time: str | None) -> int | None:
    if time is None:
        return None
    # Integers: a float of seconds since the epoch would round microseconds.
    return (msgspec.convert(time, _Moment) - _EPOCH) // _MICROSECOND


def _time(us: int | None) -> str | None:
    if us is None:
        return None
    second, fraction = divmod(us, _US_PER_SECOND)
    moment = datetime.fromtimestamp(second, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:06d}Z"
