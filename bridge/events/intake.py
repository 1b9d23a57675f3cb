"""
Makes records of events.

Owns the decision between `jobs` and the dead letters, the topics of previews, the size
limits, the records, and their counts. It does no I/O and never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Final, Literal, Protocol

import msgspec

from bridge.errors import DeadLetterReason, InvalidEventError, InvalidPreviewError
from bridge.events import dead_letter, header_names
from bridge.events.job_status import STATUSES, TERMINAL_STATUSES, Change, JobStatus
from bridge.events.parsing import parse, parse_value
from bridge.events.preview import Image, read_image, take_preview, without_preview
from bridge.events.record import Envelope, Importance, Kind, Origin, Record
from bridge.metric import counter


__all__ = ["DEFAULT_MAX_BYTES", "Event", "Intake", "IntakeStatistics", "strip_preview"]

# As a dead letter's: what a topic takes by default.
DEFAULT_MAX_BYTES: Final = dead_letter.DEFAULT_MAX_BYTES

_IMPORTANCE: Final = dict.fromkeys(STATUSES, Importance.EVENT) | (
    dict.fromkeys(TERMINAL_STATUSES, Importance.TERMINAL)
)
_WITH_PREVIEW: Final = _IMPORTANCE | {"in_progress": Importance.PREVIEW}

_DROPPED: Final = Change.PREVIEW_DROPPED.encode()

_Headers = tuple[tuple[str, bytes], ...]


class Event(Protocol):
    """What a session delivers, as far as it matters here."""

    @property
    def data(self) -> object:
        """The decoded `data` member of the frame."""

    @property
    def original(self) -> bytes:
        """The bytes of that member as they came."""


class _Text(msgspec.Struct, frozen=True):
    """The text of an event that the socket didn't bring."""

    data: str
    original: bytes = b""


def _no_letters() -> dict[DeadLetterReason, int]:
    # A rate needs the zero before the first.
    return dict.fromkeys(DeadLetterReason, 0)


class IntakeStatistics(msgspec.Struct):
    """Counts since the start; every event is in `accepted` or in one dead letter."""

    # Events that became a record on `jobs`.
    accepted: int = 0
    # Events, and previews of accepted events, that became a dead letter.
    dead_letters: Annotated[dict[DeadLetterReason, int], dead_letter.DEAD_LETTERS] = (
        msgspec.field(default_factory=_no_letters)
    )
    preview_dead_letters: Annotated[
        dict[DeadLetterReason, int], dead_letter.DEAD_LETTERS
    ] = msgspec.field(default_factory=_no_letters)
    # One event can have several.
    normalized: Annotated[
        dict[Change, int],
        counter(
            "bridge_events_normalized",
            "Changes made to events, by kind: the values of bridge_normalized.",
            "change",
        ),
    ] = msgspec.field(default_factory=lambda: dict.fromkeys(Change, 0))
    previews: Annotated[
        int, counter("bridge_previews_accepted", "Previews that became a record.")
    ] = 0

    @property
    def events(
        self,
    ) -> Annotated[
        int, counter("bridge_events_accepted", "Events, dead letters included.")
    ]:
        """All events, whatever became of them."""
        return self.accepted + sum(self.dead_letters.values())


class Intake:
    """
    Makes the records of one account's events.

    Attributes:
        statistics: What came in so far.
    """

    def __init__(  # noqa: PLR0913  # facts of their own, each given by name
        self,
        *,
        ce_source: str,
        topic: str,
        dead_letter_topic: str,
        offer: Callable[[list[Record]], None] | None = None,
        previews: Literal["inline", "drop", "topic"] = "inline",
        preview_topic: str | None = None,
        max_value_bytes: int = DEFAULT_MAX_BYTES,
        max_dead_letter_bytes: int = DEFAULT_MAX_BYTES,
        max_preview_bytes: int = DEFAULT_MAX_BYTES,
        origin: Origin = Origin.SOCKET,
    ) -> None:
        """
        Prepare what all records share.

        Args:
            ce_source: `{api_url}/clients/{client_id}`.
            topic: The topic of job statuses.
            dead_letter_topic: The topic of everything else.
            offer: Takes the records of `accept`; must not wait.
            previews: Where previews go: with their event, nowhere, or to a topic.
            preview_topic: That topic; needed for `topic` only.
            max_value_bytes: The largest job status; a larger one goes without its
                preview, or is a dead letter.
            max_dead_letter_bytes: Of larger dead letters only the first part is kept.
            max_preview_bytes: The largest image on the topic of previews; a larger one
                is a dead letter.
            origin: How the bridge learned of these events.
        """
        if previews == "topic" and preview_topic is None:
            raise ValueError("previews need a topic to go to")
        self.statistics = IntakeStatistics()
        self._topic = topic
        self._dead_letter_topic = dead_letter_topic
        self._offer = offer
        self._previews: Literal["inline", "drop", "topic"] = previews
        self._preview_topic = preview_topic or ""
        self._max_value_bytes = max_value_bytes
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._max_preview_bytes = max_preview_bytes
        self._envelope = Envelope(
            ce_source=ce_source,
            ce_type=header_names.JOB_STATUS_TYPE,
            origin=origin,
            content_type=header_names.JSON_CONTENT,
        )
        # One object for each kind of image: see `dead_letter`.
        self._preview_envelopes: dict[str, Envelope] = {}

    def accept(self, events: Sequence[Event], received_at_us: int) -> None:
        """
        Make one record of each event and offer them together, in order.

        A preview that becomes a record of its own comes before its event.

        Args:
            events: What one read of the socket brought.
            received_at_us: When it did, microseconds since the epoch.
        """
        records = self._make(events, received_at_us)
        if records:
            assert self._offer is not None
            self._offer(records)

    def records(self, event: str | bytes, received_at_us: int) -> list[Record]:
        """
        Make the records of an event that the socket didn't bring, without offering.

        Args:
            event: The JSON of a job status, or what is meant to be one.
            received_at_us: When it was read, microseconds since the epoch.

        Returns:
            The event's own record, or its dead letter, is the last.
        """
        if isinstance(event, str):
            return self._make([_Text(event)], received_at_us)
        with suppress(UnicodeDecodeError):
            return self._make([_Text(event.decode())], received_at_us)
        reason, problem = DeadLetterReason.NOT_JSON, "the event is not UTF-8"
        error = InvalidEventError(problem, reason=reason, original=event)
        return [self._refused(error, received_at_us)]

    def record(self, event: bytes, received_at_us: int) -> Record:
        """Make an event's own record, as `records`: with `inline` there is no other."""
        return self.records(event, received_at_us)[-1]

    def _make(self, events: Sequence[Event], received_at_us: int) -> list[Record]:
        topic, envelope = self._topic, self._envelope
        max_bytes, takes_previews = self._max_value_bytes, self._previews != "inline"
        records: list[Record] = []
        accepted = 0
        for event in events:
            data = event.data
            try:
                if isinstance(data, str):
                    status = parse(data)
                else:
                    status = parse_value(event.original)
                if len(status.value) > max_bytes:
                    status = self._fitting(status, event)
            except InvalidEventError as error:
                records.append(self._refused(error, received_at_us))
                continue
            headers: _Headers = ()
            if takes_previews and status.has_preview:
                status, headers = self._take_preview(status, received_at_us, records)
            if status.normalized:
                headers = self._note(status.normalized) + headers
            importance = _WITH_PREVIEW if status.has_preview else _IMPORTANCE
            records.append(
                Record(
                    topic,
                    status.key,
                    status.value,
                    received_at_us,
                    envelope,
                    headers,
                    importance[status.status],
                    status.status,
                    status.progress,
                )
            )
            accepted += 1
        self.statistics.accepted += accepted
        return records

    def _fitting(self, status: JobStatus, event: Event) -> JobStatus:
        """Make a status that is too large fit without its preview, now or later."""
        if status.has_preview:
            value = without_preview(status.value)
            if len(value) <= self._max_value_bytes:
                if self._previews != "inline":
                    return status
                return _changed(status, value, Change.PREVIEW_TOO_LARGE)
        raise InvalidEventError(
            f"the event has {len(status.value)} bytes, more than"
            f" {self._max_value_bytes}",
            reason=DeadLetterReason.TOO_LARGE,
            original=event.data.encode("utf-8", "surrogatepass")
            if isinstance(event.data, str)
            else event.original,
            request_id=status.request_id,
        )

    def _take_preview(
        self, status: JobStatus, received_at_us: int, records: list[Record]
    ) -> tuple[JobStatus, _Headers]:
        """Take the preview out of an event, and give the headers that refer to it."""
        if self._previews == "drop":
            value = without_preview(status.value)
            return _changed(status, value, Change.PREVIEW_OMITTED), ()
        text, value = take_preview(status.value)
        try:
            image = read_image(text, self._max_preview_bytes, status.request_id)
        except InvalidPreviewError as error:
            self.statistics.preview_dead_letters[error.reason] += 1
            records.append(self._dead_letter(error, received_at_us))
            is_large = error.reason is DeadLetterReason.TOO_LARGE
            change = Change.PREVIEW_TOO_LARGE if is_large else Change.PREVIEW_INVALID
            return _changed(status, value, change), ()
        digest = (header_names.BRIDGE_PREVIEW_SHA256, image.sha256.encode())
        records.append(self._preview(image, status.key, digest, received_at_us))
        return _changed(status, value, Change.PREVIEW_MOVED), (digest,)

    def _note(self, changes: tuple[Change, ...]) -> _Headers:
        """Count the changes of one record and make the header that lists them."""
        for change in changes:
            self.statistics.normalized[change] += 1
        return ((header_names.BRIDGE_NORMALIZED, ",".join(changes).encode()),)

    def _refused(self, error: InvalidEventError, received_at_us: int) -> Record:
        """Make the dead letter of an event and count it."""
        self.statistics.dead_letters[error.reason] += 1
        return self._dead_letter(error, received_at_us)

    def _dead_letter(self, error: InvalidEventError, received_at_us: int) -> Record:
        return dead_letter.invalid(
            error,
            received_at_us,
            topic=self._dead_letter_topic,
            max_bytes=self._max_dead_letter_bytes,
            shared=self._envelope,
        )

    def _preview(
        self, image: Image, key: bytes, digest: tuple[str, bytes], received_at_us: int
    ) -> Record:
        """Make the record of a preview and count it; it isn't a job's status."""
        self.statistics.previews += 1
        envelope = self._preview_envelopes.get(image.content_type)
        if envelope is None:
            envelope = self._preview_envelopes[image.content_type] = (
                msgspec.structs.replace(
                    self._envelope,
                    ce_type=header_names.PREVIEW_TYPE,
                    content_type=image.content_type,
                    kind=Kind.PREVIEW,
                )
            )
        noted = self._note((Change.PREVIEW_TYPE,)) if image.is_mislabeled else ()
        return Record(
            self._preview_topic,
            key,
            image.data,
            received_at_us,
            envelope,
            (*noted, digest),
            Importance.PICTURE,
        )


def _changed(status: JobStatus, value: bytes, change: Change) -> JobStatus:
    """Give a status without its preview, and why it has none."""
    return msgspec.structs.replace(
        status,
        value=value,
        normalized=(*status.normalized, change),
        has_preview=False,
    )


def strip_preview(record: Record) -> Record | None:
    """
    Take the preview out of an event's record, and note that in its headers.

    Args:
        record: Any record.

    Returns:
        The smaller record, as important as any event; None where there is no
        preview that may be dropped.
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
        value=without_preview(record.value),
        extra=tuple(headers.items()),
        importance=Importance.EVENT,
    )
