"""Records of gaps as the bridge's own ledger writes them, and as others might."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bridge.events.record import Origin
from bridge.gaps.gap import GapCause
from bridge.kafka.reader import ConsumedRecord
from tests.gaps.books import NOW_US, Books


def value(gap_id: str = "g-1", **members: Any) -> bytes:
    """Make the value of a gap that was open for 7.25 s, with some members changed."""
    plain = {
        "gap_id": gap_id,
        "cause": "disconnected",
        "client_id": "client-42",
        "since": "2026-01-31T12:00:00.000000Z",
        "until": "2026-01-31T12:00:07.250000Z",
        "duration_seconds": 7.25,
        "close_code": 1006,
        "jobs_in_flight": 3,
    }
    return json.dumps(plain | members).encode()


def settled(gap_id: str = "g-1", unknown: int = 0, **members: Any) -> bytes:
    """Make one of which it is known what became of its jobs."""
    counts = {"healed_by_status_endpoint": 2, "healed_by_webhook": 1}
    return value(gap_id, **counts | {"unknown": unknown} | members)


def consumed(value: bytes | None, offset: int = 0) -> ConsumedRecord:
    """Give it as it is read from a topic."""
    return ConsumedRecord(
        topic="jobs.gaps",
        partition=0,
        offset=offset,
        timestamp_ms=NOW_US // 1000,
        key=b"client-42",
        value=value,
        headers={},
    )


def records(values: Sequence[bytes | None]) -> list[ConsumedRecord]:
    """Give them in their order."""
    return [consumed(value, offset) for offset, value in enumerate(values)]


def values_of_ledger() -> list[bytes]:
    """Give what the bridge writes of three gaps."""
    books = Books("client-42", "client-7")
    ledger = books.ledger
    books.jobs_in_flight["client-42"], books.jobs_in_flight["client-7"] = 4, 0
    first = ledger.open("client-42", GapCause.STOPPED, NOW_US - 60_000_000)
    ledger.close(first, NOW_US - 55_500_000)
    (closed,) = ledger.unresolved("client-42")
    books.heal([first], Origin.STATUS_ENDPOINT)
    books.heal([first], Origin.WEBHOOK)
    ledger.resolve(closed, 2)
    second = ledger.open("client-7", GapCause.FIRST_START, None)
    ledger.close(second, NOW_US - 30_000_000)
    del books.jobs_in_flight["client-42"]
    ledger.open("client-42", GapCause.DEAF, NOW_US)
    books.heal([first], Origin.WEBHOOK)
    ledger.resolve(closed, 1)
    return [record.value for record in books.records]
