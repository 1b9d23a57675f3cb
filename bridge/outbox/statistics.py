"""
What the outbox counts.

Plain attributes with one writer each; metrics and health read them.
"""

from __future__ import annotations

import msgspec


__all__ = ["OutboxStatistics"]

# The causes are those of the gap ledger.
_CAUSES = ("overflow", "outbox_full", "outbox_damaged")


class OutboxStatistics(msgspec.Struct):
    """
    The outbox's figures; its thread writes, anybody reads.

    Attributes:
        rows: Rows that wait for their acknowledgement.
        rows_at_start: Rows that waited when this process opened the file.
        bytes: Size of the database and its log on disk.
        oldest_received_at_us: When the oldest waiting row was read.
        accepted: Records that the buffer took.
        committed: Records that were committed.
        acknowledged: Rows that Kafka acknowledged.
        dropped: Records that were given up, by cause: `overflow` (the buffer had
            no room), `outbox_full` (because the disk or the limit had none),
            `outbox_damaged` (the file failed with them in the buffer).
        full: Whether the disk or the limit refuses rows just now.
        last_beat: `time.monotonic` of the loop's last round, 0 while none runs.
    """

    rows: int = 0
    rows_at_start: int = 0
    bytes: int = 0
    oldest_received_at_us: int | None = None
    accepted: int = 0
    committed: int = 0
    acknowledged: int = 0
    dropped: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(_CAUSES, 0)
    )
    full: bool = False
    last_beat: float = 0.0
