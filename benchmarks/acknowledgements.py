"""
How long an event took from the bridge's read of it to the broker's acknowledgement.

Owns the notes of acknowledgements that a bridge under measurement takes, one for
each batch, and their meeting with the topic's records, each of which says in
`ce_time` when it was read. Both clocks are this machine's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from benchmarks.figures import Latency, latency_of
from bridge.record import Envelope
from tests.kit.reader import Record


__all__ = ["Notes", "latency"]

_READ_AT = "ce_time"


class _Outbox(Protocol):
    """What is told of acknowledgements."""

    def acknowledge(  # noqa: PLR0913, PLR0917 - the Protocol's
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,
        envelopes: Mapping[Envelope, int] | None = None,
    ) -> None:
        """Note that rows stand in the log."""


class Notes:
    """When which offsets were acknowledged: about 1 us for each batch."""

    def __init__(self) -> None:
        self._batches: list[tuple[int, str, int, int, int]] = []

    def watch(self, outbox: _Outbox) -> None:
        """Note from now on whatever is acknowledged to an outbox."""
        acknowledge, note = outbox.acknowledge, self._batches.append

        def noting(  # noqa: PLR0913, PLR0917 - the Protocol's
            topic: str,
            partition: int,
            first_sequence: int,
            last_sequence: int,
            base_offset: int,
            size_bytes: int,
            envelopes: Mapping[Envelope, int] | None = None,
        ) -> None:
            count = last_sequence - first_sequence + 1
            note((time.time_ns(), topic, partition, base_offset, count))
            acknowledge(
                topic,
                partition,
                first_sequence,
                last_sequence,
                base_offset,
                size_bytes,
                envelopes,
            )

        outbox.acknowledge = noting  # type: ignore[method-assign] # on this one alone

    def save(self, file: Path) -> None:
        """Write them down for `latency`."""
        file.write_text(json.dumps(self._batches))


def latency(
    file: Path, topic: str, records: Iterable[Record], *, lead_seconds: float
) -> Latency | None:
    """
    Measure from the read of an event to its acknowledgement.

    Args:
        file: From `Notes.save`.
        topic: The records' topic.
        records: What stands on it.
        lead_seconds: Events that were read so soon after the first are left out.

    Returns:
        None if no record was acknowledged, or nobody took notes: a peer doesn't.
    """
    if not file.is_file():
        return None
    acknowledged_us = {}
    for at_ns, name, partition, base_offset, count in json.loads(file.read_text()):
        if name == topic:
            for offset in range(base_offset, base_offset + count):
                acknowledged_us[partition, offset] = at_ns / 1000
    taken = []
    for record in records:
        end_us = acknowledged_us.get((record.partition, record.offset))
        if end_us is not None:
            moment = datetime.fromisoformat(record.headers[_READ_AT].decode())
            taken.append((moment.timestamp() * 1e6, end_us))
    if not taken:
        return None
    first_us = min(read_us for read_us, _ in taken) + lead_seconds * 1e6
    return latency_of(
        [(end_us - read_us) / 1000 for read_us, end_us in taken if read_us >= first_us]
    )
