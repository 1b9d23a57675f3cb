"""
The headers of every record that the relay writes: CloudEvents in binary mode.

Names stand in `header_names`; this module turns a stored record into its headers, as
pairs and as they stand in a batch, and back into what resume needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from bridge.events import header_names as names
from bridge.events.record import Envelope, StoredRecord


__all__ = ["HeaderWriter", "own_identity"]

Header = tuple[str, bytes]

# As many as there are dead letters' envelopes; rows that are read from disk bring
# objects of their own, and others after each commit that failed.
_ENVELOPES_KNOWN = 1024


class _Shared(NamedTuple):
    """
    What an envelope's records share.

    Attributes:
        envelope: Kept, so that its id can't become another one's.
        headers: They.
    """

    envelope: Envelope
    headers: list[Header]


class HeaderWriter:
    """
    Writes headers; made once for each outbox.

    Args:
        outbox_id: The outbox's UUID.
    """

    def __init__(self, outbox_id: str) -> None:
        self._outbox = outbox_id.encode()
        self._shared: dict[int, _Shared] = {}
        self._framed: dict[int, _Shared] = {}
        self._second = -1
        self._second_text = ""

    def headers(
        self,
        record: StoredRecord,
        *,
        is_resent: bool = False,
        is_framed: bool = False,
    ) -> list[Header]:
        """
        Give a record's headers.

        Args:
            record: The record.
            is_resent: Whether a log had it already and lost it.
            is_framed: Whether a prefix stands before its value.
        """
        headers = [
            *self._share(record.envelope, is_framed=is_framed).headers,
            (names.CE_ID, record.ce_id.encode()),
            (names.CE_TIME, self._time(record.received_at_us)),
            (names.BRIDGE_SEQUENCE, b"%d" % record.sequence),
        ]
        if record.key is not None:
            headers.append((names.CE_SUBJECT, record.key))
        if record.extra:
            headers += record.extra
        if is_resent:
            _note(headers, names.RESENT)
        return headers

    def _share(self, envelope: Envelope, *, is_framed: bool) -> _Shared:
        # Identity first: an Envelope's own hash would cost more than the list.
        known = self._framed if is_framed else self._shared
        shared = known.get(id(envelope))
        if shared is None:
            if len(known) >= _ENVELOPES_KNOWN:
                known.clear()
            shared = self._shared_by(envelope, is_framed=is_framed)
            known[id(envelope)] = shared
        return shared

    def _shared_by(self, envelope: Envelope, *, is_framed: bool) -> _Shared:
        # With a prefix it is what the envelope says no more, and there is no other
        # name for it: whoever goes by the content type must not parse it.
        content = names.BYTES_CONTENT if is_framed else envelope.content_type
        headers = [
            (names.CE_SPECVERSION, b"1.0"),
            (names.CE_SOURCE, envelope.ce_source.encode()),
            (names.CE_TYPE, envelope.ce_type.encode()),
            (names.CONTENT_TYPE, content.encode()),
            (names.BRIDGE_OUTBOX, self._outbox),
            (names.BRIDGE_ORIGIN, envelope.origin.encode()),
        ]
        return _Shared(envelope, headers)

    def _time(self, us: int) -> bytes:
        """Write RFC 3339 in UTC; records of one second share its first half."""
        second, fraction = divmod(us, 1_000_000)
        if second != self._second:
            self._second = second
            moment = datetime.fromtimestamp(second, UTC)
            self._second_text = moment.strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{fraction:06d}Z".encode()


def _note(headers: list[Header], anomaly: bytes) -> None:
    """Add a word to what is said to be odd about a record."""
    for number, (name, words) in enumerate(headers):
        if name == names.BRIDGE_ANOMALY:
            headers[number] = (name, b"%b,%b" % (words, anomaly))
            return
    headers.append((names.BRIDGE_ANOMALY, anomaly))


def own_identity(headers: Iterable[Header], outbox_id: bytes) -> tuple[str, int] | None:
    """
    Read `ce_id` and `bridge_sequence` of a record that this outbox wrote.

    Returns:
        Both, or None for a record of somebody else.
    """
    found = dict(headers)
    if found.get(names.BRIDGE_OUTBOX) != outbox_id:
        return None
    try:
        return found[names.CE_ID].decode(), int(found[names.BRIDGE_SEQUENCE])
    except (KeyError, ValueError):
        return None
