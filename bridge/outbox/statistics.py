"""
What the outbox counts.

Plain attributes with one writer each (what was dropped: `losses`, for all
threads); metrics and health read them.
"""

from __future__ import annotations

import msgspec

from bridge.outbox.tallies import Tallies


__all__ = ["OutboxStatistics"]

# The causes are those of the gap ledger.
_CAUSES = ("overflow", "outbox_full", "outbox_damaged")

# Words of `bridge_anomaly` that the outbox gives.
_ANOMALIES = ("duplicate", "regression")


class OutboxStatistics(msgspec.Struct):
    """
    The outbox's figures; its thread writes, anybody reads.

    Attributes:
        rows: Rows that wait for their acknowledgement.
        rows_at_start: Rows that waited when this process opened the file.
        held: Webhooks that are held for the socket's own event.
        held_at_start: Those that were held when this process opened the file.
        bytes: Size of the database and its log on disk.
        oldest_received_at_us: When the oldest waiting row was read.
        quarantined: Rows that lie in quarantine, from other runs as well.
        accepted: Records that came in. Each is committed, dropped or in memory.
        committed: Records of those that were committed.
        kept: Gap records that were committed; `accepted` doesn't count them.
        acknowledged: Rows that Kafka acknowledged.
        dropped: Records that were given up, by cause: `overflow` (the buffer had
            no room), `outbox_full` (because the disk or the limit had none),
            `outbox_damaged` (the file failed with them in the buffer).
        dropped_previews: Records that lost their preview, and nothing else, for
            want of room.
        dropped_pictures: Records of previews alone that were given up for want of
            room, whole: no event is lost with them.
        lost_rows: Committed rows that could not be read of a damaged file, as far as
            that is known.
        forgotten_jobs: Jobs that are in flight for all that is known, but are too many
            or weren't heard of for too long to be remembered.
        anomalies: Committed records that were marked, by word.
        late: Committed dead letters of records that came after their job's last one.
        ended_jobs: Jobs of which it is known just now that they have ended.
        forgotten_ends: Ended jobs that are too many to be remembered for as long as
            they should be.
        full: Whether the disk or the limit refuses rows just now.
        last_beat: `time.monotonic` of the loop's last round, 0 while none runs.
        tallies: What became of rows, by kind and origin, in one reading.
    """

    rows: int = 0
    rows_at_start: int = 0
    held: int = 0
    held_at_start: int = 0
    bytes: int = 0
    oldest_received_at_us: int | None = None
    quarantined: int = 0
    accepted: int = 0
    committed: int = 0
    kept: int = 0
    acknowledged: int = 0
    dropped: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(_CAUSES, 0)
    )
    dropped_previews: int = 0
    dropped_pictures: int = 0
    lost_rows: int = 0
    forgotten_jobs: int = 0
    anomalies: dict[str, int] = msgspec.field(
        default_factory=lambda: dict.fromkeys(_ANOMALIES, 0)
    )
    late: int = 0
    ended_jobs: int = 0
    forgotten_ends: int = 0
    full: bool = False
    last_beat: float = 0.0
    tallies: Tallies = msgspec.field(default_factory=Tallies)
