"""The headers, word for word, as consumers depend on them."""

from __future__ import annotations

from bridge.events import header_names
from bridge.events.record import Envelope, StoredRecord
from bridge.kafka.headers import HeaderWriter, own_identity
from tests.kafka.relay.relaying import ENVELOPE


_OUTBOX = "0d6a2d3e-8d0c-4b5e-9c56-0a7d9f0f8f3b"


def stored(
    *,
    key: bytes | None = b"req-1",
    received_at_us: int = 1_764_000_000_000_007,
    envelope: Envelope = ENVELOPE,
    extra: tuple[tuple[str, bytes], ...] = (),
) -> StoredRecord:
    """A record as the outbox gives it."""
    return StoredRecord(42, "f00d-17", key, b"{}", received_at_us, envelope, extra)


def test_what_is_odd_about_a_record_stands_in_one_header() -> None:
    """Consumers read the last header of a name: two would hide one."""
    writer = HeaderWriter(_OUTBOX)
    replayed = stored(extra=((header_names.BRIDGE_ANOMALY, b"replayed"),))
    for record, expected in ((replayed, b"replayed,resent"), (stored(), b"resent")):
        headers = writer.headers(record, is_resent=True)
        assert len(dict(headers)) == len(headers)
        assert dict(headers)["bridge_anomaly"] == expected


def test_times_keep_their_microseconds() -> None:
    """Times of one second and of others, earlier ones too, are exact."""
    writer = HeaderWriter(_OUTBOX)
    times = [
        dict(writer.headers(stored(received_at_us=us)))["ce_time"]
        for us in (
            1_764_000_000_000_000,
            1_764_000_000_999_999,
            1_764_000_001_000_000,
            1_763_999_999_500_000,
            0,
        )
    ]
    assert times == [
        b"2025-11-24T16:00:00.000000Z",
        b"2025-11-24T16:00:00.999999Z",
        b"2025-11-24T16:00:01.000000Z",
        b"2025-11-24T15:59:59.500000Z",
        b"1970-01-01T00:00:00.000000Z",
    ]


def test_own_records_are_recognised_and_no_others() -> None:
    """Other outboxes, other producers and damaged headers don't count."""
    own = _OUTBOX.encode()
    headers = dict(HeaderWriter(_OUTBOX).headers(stored()))
    assert own_identity(headers.items(), own) == ("f00d-17", 42)
    assert own_identity(headers.items(), b"another") is None
    assert own_identity([], own) is None
    for broken in (
        {**headers, "bridge_sequence": b"many"},
        {**headers, "ce_id": b"\xff"},
        {name: value for name, value in headers.items() if name != "ce_id"},
    ):
        assert own_identity(broken.items(), own) is None
