"""
The headers of every record that the relay writes: CloudEvents in binary mode.

Names are in `header_names`; this module turns a stored record into its headers, and
back into what resume needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from bridge.events import header_names as names
from bridge.events.record import Envelope, StoredRecord


__all__ = ["HeaderWriter", "own_identity"]

Header = tuple[str, bytes]

# As many as there are dead letters' envelopes; rows that are read from disk bring
# objects of their own, and others after each commit that failed.
_ENVELOPES_KNOWN = 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HeaderWriter:
    """Writes headers; made once for each outbox, which its UUID names."""

    def __init__(self, outbox_id: str) -> None:
        self._outbox = outbox_id.encode()
        # What an envelope's records share: plain, and with a prefix before the value.
        # The envelope is kept, so that its id can't become another one's.
        self._shared: dict[int, tuple[list[Header], list[Header], Envelope]] = {}

    def headers(
        self, record: StoredRecord, *, is_resent: bool = False, is_framed: bool = False
    ) -> list[Header]:
        """Give a record's headers; a framed one has a prefix before its value."""
        # Identity first: an Envelope's own hash would cost more than the list.
        shared = self._shared.get(id(record.envelope)) or self._share(record.envelope)
        headers = [
            *(shared[1] if is_framed else shared[0]),
            (names.CE_ID, record.ce_id.encode()),
            (names.CE_TIME, _time(record.received_at_us)),
            (names.BRIDGE_SEQUENCE, b"%d" % record.sequence),
        ]
        if record.key is not None:
            headers.append((names.CE_SUBJECT, record.key))
        if record.extra:
            headers += record.extra
        if is_resent:
            _note(headers, names.RESENT)
        return headers

    def _share(self, envelope: Envelope) -> tuple[list[Header], list[Header], Envelope]:
        if len(self._shared) >= _ENVELOPES_KNOWN:
            self._shared.clear()
        plain = [
            (names.CE_SPECVERSION, b"1.0"),
            (names.CE_SOURCE, envelope.ce_source.encode()),
            (names.CE_TYPE, envelope.ce_type.encode()),
            (names.BRIDGE_OUTBOX, self._outbox),
            (names.BRIDGE_ORIGIN, envelope.origin.encode()),
            (names.CONTENT_TYPE, envelope.content_type.encode()),
        ]
        # With a prefix it is what the envelope says no more, and there is no other
        # name for it: a reader that trusts the content type must not parse it.
        framed = [*plain[:-1], (names.CONTENT_TYPE, names.BYTES_CONTENT.encode())]
        shared = self._shared[id(envelope)] = plain, framed, envelope
        return shared


# Records of one read of the socket have one time.
@lru_cache(maxsize=64)
def _time(us: int) -> bytes:
    """Write RFC 3339 in UTC."""
    moment = _EPOCH + timedelta(microseconds=us)
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z".encode()


def _note(headers: list[Header], anomaly: bytes) -> None:
    """Add a word to what is said to be odd about a record."""
    for number, (name, words) in enumerate(headers):
        if name == names.BRIDGE_ANOMALY:
            headers[number] = (name, b"%b,%b" % (words, anomaly))
            return
    headers.append((names.BRIDGE_ANOMALY, anomaly))


def own_identity(headers: Iterable[Header], outbox_id: bytes) -> tuple[str, int] | None:
    """Read `ce_id` and `bridge_sequence`; None if another outbox wrote the record."""
    found = dict(headers)
    if found.get(names.BRIDGE_OUTBOX) != outbox_id:
        return None
    try:
        return found[names.CE_ID].decode(), int(found[names.BRIDGE_SEQUENCE])
    except (KeyError, ValueError):
        return None
