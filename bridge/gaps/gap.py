"""
What a gap is, and the form in which it stands on `jobs.gaps`.

Owns the causes, the value that the bridge works with and the published type, from
which `schemas/gap.schema.json` is made. When a gap opens, closes and is settled is
`ledger`'s.
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

# Which of a gap's numbers counts the jobs that came by a way.
_COUNTED_AS: Final = {
    Origin.STATUS_ENDPOINT: "healed_by_status_endpoint",
    Origin.WEBHOOK: "healed_by_webhook",
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# How a moment is written, as JSON Schema says it; headers write theirs alike.
TIME_SCHEMA: Final = {
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
    "format": "date-time",
}


class GapCause(StrEnum):
    """Why events may have been missed: a closed vocabulary, also a metric's label."""

    FIRST_START = "first_start"
    """Nothing is known of the time before: a new outbox."""

    STOPPED = "stopped"
    """The bridge was stopped, and started again."""

    CRASHED = "crashed"
    """The bridge ended without having been stopped."""

    DISCONNECTED = "disconnected"
    """The connection was lost."""

    DEAF = "deaf"
    """The connection stood, but nothing came through it."""

    REFUSED = "refused"
    """DryAPI refused the account for a time."""

    SUSPENDED = "suspended"
    """The process stood still: a stopped process, a machine asleep."""

    OVERFLOW = "overflow"
    """Events came faster than the disk took them, and memory was full."""

    OUTBOX_FULL = "outbox_full"
    """The outbox had no room on disk, and memory was full."""

    OUTBOX_DAMAGED = "outbox_damaged"
    """The outbox's file was damaged, with what had not reached Kafka yet."""

    @property
    def is_loss(self) -> bool:
        """Whether the outbox gave up what had been read; else nothing was heard."""
        return self in _LOSSES


_LOSSES: Final = frozenset(
    {GapCause.OVERFLOW, GapCause.OUTBOX_FULL, GapCause.OUTBOX_DAMAGED}
)

_CAUSES_TEXT: Final = (
    "Why: `first_start` (nothing is known of the time before), `stopped` and `crashed`"
    " (of the bridge), `disconnected`, `deaf` (connected, but nothing came through),"
    " `refused` (by dryAPI), `suspended` (the process stood still), `overflow` (memory"
    " was full), `outbox_full` (disk and memory were), `outbox_damaged`."
)

_Moment = Annotated[datetime, Meta(tz=True)]
_Time = Annotated[str, Meta(extra_json_schema=TIME_SCHEMA)]
_Count = Annotated[int, Meta(ge=0)]


class GapRecord(msgspec.Struct, frozen=True):
    """
    One interval in which events of one account may have been missed.

    A gap is written when it opens, with `until` null, again with the same `gap_id` when
    it closes, and again when it is settled: when it is known what became of its jobs,
    or that nobody can tell. What is learned later is written again. Members beside
    these may be added.
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
            description=_CAUSES_TEXT,
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
                "What was sent before this moment had arrived: RFC 3339, UTC,"
                " microseconds. Null where nothing is known of the time before. It may"
                " turn out to be earlier: the last record of a gap counts."
            ),
            examples=["2026-01-31T12:00:00.000000Z", None],
        ),
    ]
    until: Annotated[
        _Time | None,
        Meta(
            description=(
                "What is sent from this moment on arrives, or lies in another gap. Null"
                " while open."
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
                "How many jobs were known to be unfinished when the gap opened or,"
                " where that was not known, when it closed; null where neither is."
            ),
            examples=[3, None],
        ),
    ]
    healed_by_status_endpoint: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "Of how many jobs dryAPI's status endpoint told the end, which the gap"
                " had swallowed. Jobs that went on are counted neither here nor below."
                " Absent until the gap is settled."
            ),
            examples=[2],
        ),
    ] = UNSET
    healed_by_webhook: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "Of how many jobs a webhook told it, with those that began and ended"
                " within the gap: it may be more than were in flight. Absent until the"
                " gap is settled."
            ),
            examples=[1],
        ),
    ] = UNSET
    unknown: Annotated[
        _Count | UnsetType,
        Meta(
            description=(
                "Of how many jobs that were in flight nobody can tell what became. It"
                " falls when one is heard of after all: the last record of a gap"
                " counts. Absent until the gap is settled."
            ),
            examples=[0],
        ),
    ] = UNSET


class Gap(msgspec.Struct, frozen=True):
    """
    A gap as the bridge works with it; times are microseconds since the epoch.

    Attributes:
        gap_id: A UUID.
        cause: Why.
        client_id: Whose events.
        since_us: What was sent before had arrived; None if nothing is known.
        until_us: What is sent from then on arrives; None while the gap is open.
        close_code: What ended the connection, if a code did.
        jobs_in_flight: Known when the gap opened or closed; None if nobody knows.
        healed_by_status_endpoint: How many jobs so far, settled or not.
        healed_by_webhook: The same.
        unknown: Of how many jobs nobody can tell; None until the gap is settled.
    """

    gap_id: str
    cause: GapCause
    client_id: str
    since_us: int | None
    until_us: int | None = None
    close_code: int | None = None
    jobs_in_flight: int | None = None
    healed_by_status_endpoint: int = 0
    healed_by_webhook: int = 0
    unknown: int | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of its jobs, or that nobody can tell."""
        return self.unknown is not None

    @property
    def duration_seconds(self) -> float | None:
        """How long it was; never below zero, though a clock may be set back."""
        if self.since_us is None or self.until_us is None:
            return None
        return max(0, self.until_us - self.since_us) / _US_PER_SECOND

    def published(self) -> GapRecord:
        """Give it as it stands on `jobs.gaps`."""
        return GapRecord(
            gap_id=self.gap_id,
            cause=self.cause.value,
            client_id=self.client_id,
            since=_time(self.since_us),
            until=_time(self.until_us),
            duration_seconds=self.duration_seconds,
            close_code=self.close_code,
            jobs_in_flight=self.jobs_in_flight,
            **self._outcome,
        )

    @property
    def _outcome(self) -> dict[str, int]:
        """Give the members that it has from when it is settled."""
        if self.unknown is None:
            return {}
        return {
            "healed_by_status_endpoint": self.healed_by_status_endpoint,
            "healed_by_webhook": self.healed_by_webhook,
            "unknown": self.unknown,
        }

    def covers(self, moment_us: int | None, now_us: int = 0) -> bool:
        """
        Whether a moment lies in it.

        Args:
            moment_us: Which; None, which lies nowhere, if it isn't known.
            now_us: Until when it has gone on so far, for one that is open.
        """
        if moment_us is None:
            return False
        until_us = now_us if self.until_us is None else self.until_us
        return (self.since_us or 0) <= moment_us <= until_us

    def healed(self, origin: Origin) -> Gap:
        """
        Count one more job of it.

        Args:
            origin: How its end was learned: by the status endpoint or a webhook.

        Raises:
            KeyError: Nothing is healed in that way.
        """
        name = _COUNTED_AS[origin]
        return msgspec.structs.replace(self, **{name: getattr(self, name) + 1})

    def encode(self) -> bytes:
        """Give it as the JSON of its record."""
        return msgspec.json.encode(self.published())

    @classmethod
    def decode(cls, value: bytes) -> Gap:
        """
        Read what `encode` gave.

        Args:
            value: The JSON of a gap's record.

        Raises:
            ValueError: It is not that, or another version's.
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
    # In whole numbers: a float of seconds since the epoch rounds microseconds.
    return (msgspec.convert(time, _Moment) - _EPOCH) // _MICROSECOND


def _time(us: int | None) -> str | None:
    if us is None:
        return None
    second, fraction = divmod(us, _US_PER_SECOND)
    moment = datetime.fromtimestamp(second, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:06d}Z"
