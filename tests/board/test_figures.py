"""Tests of how late events are, as the page tells it."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime

from bridge.board.figures import Latencies
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.records import START_MS, raw_record


def _read_at(at_ms: int, origin: bytes = b"socket") -> ConsumedRecord:
    time = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    headers = {"ce_time": time.encode(), "bridge_origin": origin}
    return raw_record(b"{}", headers=headers, at_ms=START_MS - 5)


def test_lateness_is_from_the_socket_to_here() -> None:
    """Half were faster than the median; what was replayed is no measure."""
    latencies = Latencies()
    run = [_read_at(START_MS - n) for n in range(1, 101)]
    latencies.add([*run, _read_at(0, b"replay")], START_MS)
    p50, p99 = latencies.percentiles(START_MS)
    assert p50 is not None
    assert p99 is not None
    assert 48 <= p50 <= 54
    assert 96 <= p99 <= 100


def test_lateness_is_that_of_the_last_seconds() -> None:
    """Nothing is said where nothing came."""
    latencies = Latencies()
    assert latencies.percentiles(START_MS) == (None, None)
    latencies.add([_read_at(START_MS - 3)], START_MS)
    assert latencies.percentiles(START_MS + 9_000) == (3.0, 3.0)
    assert latencies.percentiles(START_MS + 11_000) == (None, None)


def test_the_memory_of_a_flood_is_bounded() -> None:
    """200,000 samples would take megabytes."""
    latencies = Latencies()
    flood = [_read_at(START_MS - 2)] * 2_000
    tracemalloc.start()
    try:
        for _ in range(100):
            latencies.add(flood, START_MS)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 500_000
