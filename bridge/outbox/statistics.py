"""
What the outbox counts: plain attributes with one writer each.

The Kafka thread writes what it commits, the trio thread what it offers and drops.
Metrics and health read them.
"""

from __future__ import annotations

from copy import copy
from threading import Lock

import msgspec


__all__ = ["OutboxStatistics", "TopicCounts"]


class TopicCounts(msgspec.Struct):
    """
    What became of one topic's rows since the start; all but `waiting` only grow.

    `found + committed + resent = acknowledged + refused + waiting` after each commit.

    Attributes:
        found: Rows that waited when this process opened the outbox.
        committed: Rows that this process committed.
        resent: Acknowledged rows that a truncated log lost: they wait again.
        acknowledged: Rows that Kafka has.
        refused: Rows that the broker refused for good.
        waiting: Rows that wait.
    """

    found: int = 0
    committed: int = 0
    resent: int = 0
    acknowledged: int = 0
    refused: int = 0
    waiting: int = 0


class OutboxStatistics(msgspec.Struct):
    """
    The outbox's figures.

    `accepted = committed + superseded + withdrawn + dropped + what is in the buffer`,
    dropped being the sum of all causes and `dropped_pictures`; what is held counts as
    committed. And of all topics but the gaps': `found + held_at_start + committed +
    resent = acknowledged + unsendable + discarded + waiting + held`.

    Attributes:
        topics: What became of rows, by topic.
        rows: Rows that wait for their acknowledgement, of all topics.
        held: Webhooks that are held for the socket's own event.
        held_at_start: Those that were held when this process opened the outbox.
        discarded: Those that were released and not needed.
        bytes: Size of the database and its WAL on disk.
        oldest_received_at_us: When the oldest waiting row was read.
        accepted: Records that were offered, by the socket and by what heals.
        committed: How many of those were committed, as rows or as held webhooks.
        superseded: Records that weren't needed: the job's own event was there first,
            or the webhook is a repetition.
        withdrawn: Webhooks and status answers that found no room, or that their sender
            stopped waiting for: they come again.
        kept: Gap records that were committed; `accepted` doesn't count them.
        dropped: Records that were dropped, by cause: `overflow` (the buffer had no
            room), `outbox_full` (because the disk or the limit had none).
        dropped_previews: Records that lost their preview, and nothing else.
        dropped_pictures: Records of previews only that were dropped: no event is lost
            with them.
        lost_rows: Committed rows that could not be read of a damaged file.
        unsendable: Rows that neither their topic nor the dead letters took, since the
            start: they stay in the file.
        forgotten_jobs: Jobs in flight that are too many or too old to be remembered.
        anomalies: Committed records that were marked, by the word in `bridge_anomaly`.
        late: Dead letters of records that came after their job's last one.
        ended_jobs: Ended jobs that are remembered.
        forgotten_ends: Ended jobs that are too many to be remembered for as long as
            they should be.
        full: Whether the disk or the limit refuses rows now.
        committed_at: `time.monotonic` of the last commit that emptied the buffer, 0 for
            none.
        lock: Held while a commit is counted.
    """

    topics: dict[str, TopicCounts] = msgspec.field(default_factory=dict)
    rows: int = 0
    held: int = 0
    held_at_start: int = 0
    discarded: int = 0
    bytes: int = 0
    oldest_received_at_us: int | None = None
    accepted: int = 0
    committed: int = 0
    superseded: int = 0
    withdrawn: int = 0
    kept: int = 0
    dropped: dict[str, int] = msgspec.field(
        default_factory=lambda: {"overflow": 0, "outbox_full": 0}
    )
    dropped_previews: int = 0
    dropped_pictures: int = 0
    lost_rows: int = 0
    unsendable: int = 0
    forgotten_jobs: int = 0
    anomalies: dict[str, int] = msgspec.field(
        default_factory=lambda: {"duplicate": 0, "regression": 0}
    )
    late: int = 0
    ended_jobs: int = 0
    forgotten_ends: int = 0
    full: bool = False
    committed_at: float = 0.0
    lock: Lock = msgspec.field(default_factory=Lock)

    def copied(self) -> OutboxStatistics:
        """Return what stood at one moment: no commit is counted by halves."""
        with self.lock:
            return msgspec.structs.replace(
                self,
                topics={one: copy(count) for one, count in self.topics.items()},
                dropped=dict(self.dropped),
            )
