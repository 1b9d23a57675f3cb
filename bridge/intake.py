"""
From events to records: what every event that was read becomes.

Owns the decision between `jobs` and the dead letters, where previews go, the records
of all of them, and the count of each. It knows no socket, no disk and no broker: events
are handed in, records are handed on, at once and without waiting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from bridge import dead_letter, job_status
from bridge.errors import DeadLetterReason, InvalidEventError, InvalidPreviewError
from bridge.job_status import Change, JobStatus
from bridge.kafka import header_names
from bridge.previews import Image, read_image
from bridge.record import Envelope, Importance, Kind, Origin, Record


__all__ = ["Event", "Intake", "IntakeStatistics", "lighten"]

_IMPORTANCE: Final = dict.fromkeys(job_status.STATUSES, Importance.EVENT) | (
    dict.fromkeys(job_status.TERMINAL_STATUSES, Importance.TERMINAL)
)
_WITH_PREVIEW: Final = _IMPORTANCE | {"in_progress": Importance.PREVIEW}

_DROPPED: Final = Change.PREVIEW_DROPPED.encode()

# As large as a message of the socket may be: what is read before it is known whether
# it fits without its preview.
_ANY_SIZE: Final = sys.maxsize

# As `job_status.DEFAULT_MAX_BYTES`.
_MAX_PREVIEW_BYTES: Final = 1_000_000

_Headers = tuple[tuple[str, bytes], ...]


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
        origin: How the bridge learned of them.
        accepted: Events that became a record on `jobs`.
        dead_letters: Events that became a dead letter, by reason.
        normalized: Changes made to accepted events and their previews, by kind; one
            event can have several.
        previews: Previews of accepted events that became a record of their own.
        preview_dead_letters: Previews of accepted events that became a dead letter
            alone, by reason.
    """

    def __init__(self, origin: Origin = Origin.SOCKET) -> None:
        self.origin = origin
        self.accepted = 0
        self.dead_letters: dict[DeadLetterReason, int] = dict.fromkeys(
            DeadLetterReason, 0
        )
        self.normalized: dict[Change, int] = dict.fromkeys(Change, 0)
        self.previews = 0
        self.preview_dead_letters: dict[DeadLetterReason, int] = dict.fromkeys(
            DeadLetterReason, 0
        )


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
        previews: Literal["inline", "drop", "topic"] = "inline",
        preview_topic: str | None = None,
        max_value_bytes: int = job_status.DEFAULT_MAX_BYTES,
        max_dead_letter_bytes: int = dead_letter.DEFAULT_MAX_BYTES,
        max_preview_bytes: int = _MAX_PREVIEW_BYTES,
        origin: Origin = Origin.SOCKET,
    ) -> None:
        """
        Prepare what all records share.

        Args:
            ce_source: `{api_url}/clients/{client_id}`.
            topic: Where job statuses go.
            dead_letter_topic: Where everything else goes.
            offer: Takes the records of one run; must not wait.
            previews: Where previews go: with their event, nowhere, or to a topic.
            preview_topic: That topic; needed for `topic` alone.
            max_value_bytes: The largest job status; a larger one goes without its
                preview, or is a dead letter.
            max_dead_letter_bytes: Of larger dead letters only the first part is kept.
            max_preview_bytes: The largest image on the topic of previews; a larger one
                is a dead letter.
            origin: How the bridge learned of these events.
        """
        if previews == "topic" and preview_topic is None:
            raise ValueError("previews need a topic to go to")
        self.statistics = IntakeStatistics(origin)
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._offer = offer
        self._previews: Literal["inline", "drop", "topic"] = previews
        self._preview_topic = preview_topic
        self._max_value_bytes = max_value_bytes
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._max_preview_bytes = max_preview_bytes
        self._envelope = Envelope(
            ce_source=ce_source,
            ce_type=header_names.JOB_STATUS_TYPE,
            origin=origin,
            content_type=header_names.JSON_CONTENT,
        )
        # One object for each kind of image: see `dead_letter.envelope`.
        self._preview_envelopes: dict[str, Envelope] = {}

    def accept(self, events: Sequence[Event], received_at_us: int) -> None:
        """
        Make one record of each event and offer them together, in order.

        A preview that goes to a topic of its own, or is a dead letter alone, comes
        before its event.

        Args:
            events: What one read of the socket brought.
            received_at_us: When it did, microseconds since the epoch.
        """
        parse, max_bytes = job_status.parse, self._max_value_bytes
        topic, envelope = self._topic, self._envelope
        takes_previews = self._previews != "inline"
        records: list[Record] = []
        refused = 0
        for event in events:
            told: _Headers = ()
            try:
                try:
                    status = parse(event.data, max_bytes)
                except InvalidEventError as error:
                    status = self._look_again(event, error)
            except InvalidEventError as error:
                refused += 1
                records.append(self._dead_letter(event, error, received_at_us))
                continue
            if takes_previews and status.has_preview:
                status, told = self._take_preview(status, received_at_us, records)
            if status.normalized:
                told = self._note(status.normalized) + told
            importance = _WITH_PREVIEW if status.has_preview else _IMPORTANCE
            records.append(
                Record(
                    topic,
                    status.key,
                    status.value,
                    received_at_us,
                    envelope,
                    told,
                    importance[status.status],
                    status.status,
                    status.progress,
                )
            )
        self.statistics.accepted += len(events) - refused
        if records:
            self._offer(records)

    def _look_again(self, event: Event, error: InvalidEventError) -> JobStatus:
        """
        Read an event that is too large for Kafka as it came.

        Returns:
            The status, which fits or will fit without its preview.

        Raises:
            InvalidEventError: It doesn't fit even so, or isn't one.
        """
        if error.reason is not DeadLetterReason.TOO_LARGE:
            raise error
        status = job_status.parse(event.data, _ANY_SIZE)
        value = job_status.without_preview(status.value)
        if len(value) > self._max_value_bytes:
            raise error
        if self._previews != "inline":
            return status
        return _changed(status, value, Change.PREVIEW_TOO_LARGE)

    def _take_preview(
        self, status: JobStatus, received_at_us: int, records: list[Record]
    ) -> tuple[JobStatus, _Headers]:
        """
        Take the preview out of an event, and let it go its own way.

        Returns:
            The event without it, and the headers that refer to it.
        """
        if self._previews == "drop":
            value = job_status.without_preview(status.value)
            return _changed(status, value, Change.PREVIEW_OMITTED), ()
        text, value = job_status.take_preview(status.value)
        try:
            image = read_image(text, self._max_preview_bytes, status.request_id)
        except InvalidPreviewError as error:
            records.append(self._preview_dead_letter(error, received_at_us))
            is_large = error.reason is DeadLetterReason.TOO_LARGE
            change = Change.PREVIEW_TOO_LARGE if is_large else Change.PREVIEW_INVALID
            return _changed(status, value, change), ()
        digest = (header_names.BRIDGE_PREVIEW_SHA256, image.sha256.encode())
        records.append(self._preview(image, status.key, digest, received_at_us))
        return _changed(status, value, Change.PREVIEW_MOVED), (digest,)

    def _note(self, changes: tuple[Change, ...]) -> _Headers:
        """Count the changes of one record and make the header that tells them."""
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

    def _preview_dead_letter(
        self, error: InvalidPreviewError, received_at_us: int
    ) -> Record:
        """Make the record of a preview that can't go to its topic and count it."""
        self.statistics.preview_dead_letters[error.reason] += 1
        letter = dead_letter.invalid(
            error,
            error.original,
            received_at_us,
            topic=self._dead_letter_topic,
            max_bytes=self._max_dead_letter_bytes,
            ce_source=self._envelope.ce_source,
            origin=self._envelope.origin,
        )
        return msgspec.structs.replace(letter, importance=Importance.PICTURE)

    def _preview(
        self, image: Image, key: bytes, digest: tuple[str, bytes], received_at_us: int
    ) -> Record:
        """Make the record of a preview and count it; it is no job's status."""
        assert self._preview_topic is not None
        self.statistics.previews += 1
        envelope = self._preview_envelopes.get(image.content_type)
        if envelope is None:
            envelope = msgspec.structs.replace(
                self._envelope,
                ce_type=header_names.PREVIEW_TYPE,
                content_type=image.content_type,
                kind=Kind.PREVIEW,
            )
            self._preview_envelopes[image.content_type] = envelope
        told = self._note((Change.PREVIEW_TYPE,)) if image.is_mislabelled else ()
        return Record(
            self._preview_topic,
            key,
            image.data,
            received_at_us,
            envelope,
            (*told, digest),
            Importance.PICTURE,
        )


def _changed(status: JobStatus, value: bytes, change: Change) -> JobStatus:
    """Give a status without its preview, and why it went."""
    return msgspec.structs.replace(
        status,
        value=value,
        normalized=(*status.normalized, change),
        has_preview=False,
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
