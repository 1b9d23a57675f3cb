"""
From events to records: what every event that was read becomes.

Owns the decision between `jobs` and the dead letters, the records of both, and the
count of each. It knows no socket, no disk and no broker: events are handed in,
records are handed on, at once and without waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from bridge import dead_letter, job_status
from bridge.errors import DeadLetterReason, InvalidEventError
from bridge.job_status import Change
from bridge.kafka import header_names
from bridge.record import Envelope, Importance, Origin, Record


__all__ = ["Event", "Intake", "IntakeStatistics", "lighten"]

_IMPORTANCE: Final = dict.fromkeys(job_status.STATUSES, Importance.EVENT) | (
    dict.fromkeys(job_status.TERMINAL_STATUSES, Importance.TERMINAL)
)
_WITH_PREVIEW: Final = _IMPORTANCE | {"in_progress": Importance.PREVIEW}

_DROPPED: Final = Change.PREVIEW_DROPPED.encode()


class Event(Protocol):
    """What a session delivers, as far as it matters here."""

    @property
    def data(self) -> object:
        """The decoded `data` member of the frame."""

    @property
    def original(self) -> bytes:
        """The bytes of that member as they came."""


class IntakeStatistics:
    """
    Counts since the start; every event is in `accepted` or in one dead letter.

    Attributes:
        accepted: Events that became a record on `jobs`.
        dead_letters: Events that became a dead letter, by reason.
        normalized: Changes made to accepted events, by kind; one event can have
            several.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.dead_letters: dict[DeadLetterReason, int] = dict.fromkeys(
            DeadLetterReason, 0
        )
        self.normalized: dict[Change, int] = dict.fromkeys(Change, 0)


class Intake:
    """
    The one door through which events of one account come in.

    Attributes:
        statistics: What came in so far.
    """

    def __init__(  # noqa: PLR0913  # facts of their own, each given by name
        self,
        *,
        ce_source: str,
        topic: str,
        dead_letter_topic: str,
        offer: Callable[[list[Record]], None],
        max_value_bytes: int = job_status.DEFAULT_MAX_BYTES,
        max_dead_letter_bytes: int = dead_letter.DEFAULT_MAX_BYTES,
        origin: Origin = Origin.SOCKET,
    ) -> None:
        """
        Prepare what all records share.

        Args:
            ce_source: `{api_url}/clients/{client_id}`.
            topic: Where job statuses go.
            dead_letter_topic: Where everything else goes.
            offer: Takes the records of one run; must not wait.
            max_value_bytes: The largest job status; larger ones are dead letters.
            max_dead_letter_bytes: Of larger dead letters only the first part is kept.
            origin: How the bridge learned of these events.
        """
        self.statistics = IntakeStatistics()
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._offer = offer
        self._max_value_bytes = max_value_bytes
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._envelope = Envelope(
            ce_source=ce_source,
            ce_type=header_names.JOB_STATUS_TYPE,
            origin=origin,
            content_type=header_names.JSON_CONTENT,
        )

    def accept(self, events: Sequence[Event], received_at_us: int) -> None:
        """
        Make one record of each event and offer them together, in order.

        Args:
            events: What one read of the socket brought.
            received_at_us: When it did, microseconds since the epoch.
        """
        parse, max_bytes = job_status.parse, self._max_value_bytes
        topic, envelope = self._topic, self._envelope
        records: list[Record] = []
        refused = 0
        for event in events:
            try:
                status = parse(event.data, max_bytes)
            except InvalidEventError as error:
                refused += 1
                records.append(self._dead_letter(event, error, received_at_us))
                continue
            extra = self._note(status.normalized) if status.normalized else ()
            importance = _WITH_PREVIEW if status.has_preview else _IMPORTANCE
            records.append(
                Record(
                    topic,
                    status.key,
                    status.value,
                    received_at_us,
                    envelope,
                    extra,
                    importance[status.status],
                    status.status,
                    status.progress,
                )
            )
        self.statistics.accepted += len(records) - refused
        if records:
            self._offer(records)

    def _note(self, changes: tuple[Change, ...]) -> tuple[tuple[str, bytes], ...]:
        """Count the changes of one event and make the header that tells them."""
        for change in changes:
            self.statistics.normalized[change] += 1
        return ((header_names.BRIDGE_NORMALIZED, ",".join(changes).encode()),)

    def _dead_letter(
        self, event: Event, error: InvalidEventError, received_at_us: int
    ) -> Record:
        """Make the record of an event that doesn't conform and count it."""
        self.statistics.dead_letters[error.reason] += 1
        # What was no string was written down anew for the error; the event knows it
        # as it came.
        original = error.original if isinstance(event.data, str) else event.original
        return dead_letter.invalid(
            error,
            original,
            received_at_us,
            topic=self._dead_letter_topic,
            max_bytes=self._max_dead_letter_bytes,
            ce_source=self._envelope.ce_source,
            origin=self._envelope.origin,
        )


def lighten(record: Record) -> Record | None:
    """
    Take the preview out of an event's record, and say so in its headers.

    Args:
        record: Any record.

    Returns:
        The smaller record, as important as any event; None where there is no
        preview that may go.
    """
    if record.importance is not Importance.PREVIEW:
        return None
    headers = dict(record.extra)
    changes = headers.get(header_names.BRIDGE_NORMALIZED)
    headers[header_names.BRIDGE_NORMALIZED] = (
        _DROPPED if changes is None else b"%b,%b" % (changes, _DROPPED)
    )
    return msgspec.structs.replace(
        record,
        value=job_status.without_preview(record.value),
        extra=tuple(headers.items()),
        importance=Importance.EVENT,
    )
