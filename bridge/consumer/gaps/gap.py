"""
A gap, as its records on the topic tell it.

Owns what is read out of a record, whoever wrote it: this version of the bridge, or
another one, whose causes and members may be others. What a gap is and when one is
written is the bridge's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from bridge.consumer.framed import unframed
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Gap", "NoGapError", "State", "as_gap"]

# No name of the bridge's is longer: a hostile one must not fill the memory.
_Name = Annotated[str, Meta(min_length=1, max_length=500)]
_Moment = Annotated[datetime, Meta(tz=True)]
# Of jobs there are fewer than a double has whole numbers.
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class NoGapError(ValueError):
    """A record's value is no gap; says why, without anything of the value."""


class State(StrEnum):
    """How far a gap is."""

    OPEN = "open"
    CLOSED = "closed"
    SETTLED = "settled"


class Gap(msgspec.Struct, frozen=True):
    """
    A gap as one of its records tells it.

    Attributes:
        gap_id: Which one.
        cause: Why; a word of the bridge that wrote it.
        client_id: Whose.
        since: What was sent before had arrived; None if nobody knows.
        until: What is sent from then on arrives; None while it is open.
        jobs_in_flight: How many jobs were unfinished; None if nobody knows.
        healed_by_status_endpoint: How many of them were healed so; None until the gap
            is settled.
        healed_by_webhook: The same.
        unknown: Of how many nobody can tell; None until the gap is settled.
    """

    gap_id: _Name
    cause: _Name
    client_id: _Name
    since: _Moment | None
    until: _Moment | None
    jobs_in_flight: _Count | None = None
    healed_by_status_endpoint: _Count | None = None
    healed_by_webhook: _Count | None = None
    unknown: _Count | None = None

    @property
    def state(self) -> State:
        """How far it is."""
        if self.until is None:
            return State.OPEN
        return State.CLOSED if self.unknown is None else State.SETTLED

    @property
    def seconds(self) -> float | None:
        """How long it was; None while that isn't known."""
        if self.since is None or self.until is None:
            return None
        # A clock may be set back.
        return max(0.0, (self.until - self.since).total_seconds())

    @property
    def moment(self) -> datetime:
        """Where it stands in time: its begin, or its end where only that is known."""
        return self.since or self.until or datetime.min.replace(tzinfo=UTC)


def as_gap(record: ConsumedRecord) -> Gap:
    """
    Read a record's value.

    Args:
        record: Of the topic of gaps, with the prefix of a Schema Registry or without.

    Raises:
        NoGapError: It is no gap.
    """
    if record.value is None:
        raise NoGapError("it has no value")
    try:
        gap = msgspec.json.decode(unframed(record)[1], type=Gap)
        return msgspec.structs.replace(
            gap, since=_in_utc(gap.since), until=_in_utc(gap.until)
        )
    except OverflowError as error:
        raise NoGapError("a time of it is before all others") from error
    except msgspec.ValidationError as error:
        raise NoGapError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NoGapError("it is no JSON") from error


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
