"""
What this version makes of a dead letter's payload: records that say whose it was.

Everything that the bridge would do with the event now is done in the intake, so that
a replayed record is like any other. Only the marks of its way are made here.
"""

from __future__ import annotations

import msgspec

from bridge.consumer.dead_letters import Letter, Shaped, received_at_us
from bridge.errors import DeadLetterReason
from bridge.events import header_names as names
from bridge.events.intake import Intake
from bridge.events.record import Origin, Record
from bridge.settings import Settings


__all__ = ["Shaping"]


# As the envelopes that the outbox and the relay know by their objects.
_INTAKES_KNOWN = 1024


class Shaping:
    """
    Makes records of letters' payloads, as the bridge does of what it reads.

    Args:
        settings: Those that the bridge would do it with.
        dead_letter_topic: Where dead letters stand.
    """

    def __init__(self, settings: Settings, dead_letter_topic: str) -> None:
        self._settings = settings
        self._dead_letter_topic = dead_letter_topic
        # By account, as many as the bridge has; strangers' letters have a bound too.
        self._intakes: dict[str, Intake] = {}

    def shape(self, letter: Letter) -> Shaped | str:
        """Give a letter's records, or the reason why its payload is still no event."""
        original = letter.record.value or b""
        try:
            # As it was written: halves of surrogate pairs have bytes there.
            text = original.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return DeadLetterReason.NOT_JSON
        intake = self._intake(letter.text(names.CE_SOURCE) or "")
        *others, record = intake.records(text, received_at_us(letter.record))
        if record.topic != self._settings.topic:
            return dict(record.extra)[names.BRIDGE_REASON].decode()
        assert record.key is not None
        assert record.status is not None
        records = [*others, _with_former_changes(record, letter)]
        return Shaped(
            record.key, record.status, [_marked(each, letter) for each in records]
        )

    def _intake(self, ce_source: str) -> Intake:
        intake = self._intakes.get(ce_source)
        if intake is None:
            if len(self._intakes) >= _INTAKES_KNOWN:
                self._intakes.clear()
            settings = self._settings
            intake = self._intakes[ce_source] = Intake(
                ce_source=ce_source,
                topic=settings.topic,
                dead_letter_topic=self._dead_letter_topic,
                previews=settings.previews,
                preview_topic=settings.preview_topic,
                max_value_bytes=settings.limits.event_bytes,
                max_dead_letter_bytes=settings.limits.event_bytes,
                max_preview_bytes=settings.limits.preview_bytes,
                origin=Origin.REPLAY,
            )
        return intake


def _with_former_changes(record: Record, letter: Letter) -> Record:
    """Keep what had been changed of an event before the broker refused it."""
    former = letter.record.headers.get(names.BRIDGE_NORMALIZED)
    if former is None:
        return record
    headers = dict(record.extra)
    words = [
        *former.split(b","),
        *headers.get(names.BRIDGE_NORMALIZED, b"").split(b","),
    ]
    told = b",".join(dict.fromkeys(word for word in words if word))
    extra = tuple((headers | {names.BRIDGE_NORMALIZED: told}).items())
    return msgspec.structs.replace(record, extra=extra)


def _marked(record: Record, letter: Letter) -> Record:
    """Say of a record whose letter it was, and that it tells nothing of jobs now."""
    marks: tuple[tuple[str, bytes], ...] = (
        (names.BRIDGE_REPLAYED_FROM, letter.place.encode()),
        (names.BRIDGE_REPLAYED_CE_ID, (letter.ce_id or "").encode()),
    )
    if record.status is not None:
        marks += ((names.BRIDGE_ANOMALY, names.REPLAYED),)
    # Without a status the outbox doesn't take it for the state of a job in flight:
    # it is one of the past, and what overtook it is known from the topic alone.
    return msgspec.structs.replace(
        record, extra=record.extra + marks, status=None, progress=None
    )
