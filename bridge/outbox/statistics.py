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
    """

    # Rows that waited when this process opened the outbox, and that it committed.
    found: int = 0
    committed: int = 0
    # Acknowledged rows that a truncated log lost: they wait again.
    resent: int = 0
    acknowledged: int = 0
    # Rows that the broker refused for good.
    refused: int = 0
    waiting: int = 0


class OutboxStatistics(msgspec.Struct):
    """
    The outbox's figures.

    `accepted = committed + superseded + withdrawn + dropped + what is in the buffer`,
    dropped being the sum of all causes and `dropped_pictures`; what is held counts as
    committed. And of all topics but the gaps': `found + held_at_start + committed +
    resent = acknowledged + unsendable + discarded + waiting + held`, as the dead letter
    of a refused row takes its place; what is replayed comes on top.
    """

    topics: dict[str, TopicCounts] = msgspec.field(default_factory=dict)
    # Rows that wait for their acknowledgement, of all topics.
    rows: int = 0
    # Webhooks that are held for the socket's own event; those that were when this
    # process opened the outbox; those that were released and not needed.
    held: int = 0
    held_at_start: int = 0
    discarded: int = 0
    # Size of the database and its WAL on disk.
    bytes: int = 0
    # When the oldest waiting row was read.
    oldest_received_at_us: int | None = None
    # Records that were offered, by the socket and by what heals, and how many of those
    # were committed, as rows or as held webhooks.
    accepted: int = 0
    committed: int = 0
    # Records that weren't needed: the job's own event was there first, or the webhook
    # is a repetition.
    superseded: int = 0
    # Webhooks and status answers that found no room, or that their sender stopped
    # waiting for: they come again.
    withdrawn: int = 0
    # Gap records that were committed; `accepted` doesn't count them.
    kept: int = 0
    # Records that were dropped: the buffer had no room, or the disk or the limit.
    dropped: dict[str, int] = msgspec.field(
        default_factory=lambda: {"overflow": 0, "outbox_full": 0}
    )
    # Records that lost their preview, and nothing else; and those of previews only that
    # were dropped: no event is lost with them.
    dropped_previews: int = 0
    dropped_pictures: int = 0
    # Committed rows that could not be read of a damaged file.
    lost_rows: int = 0
    # Rows that neither their topic nor the dead letters took, since the start: they
    # stay in the file.
    unsendable: int = 0
    # Jobs in flight that are too many or too old to be remembered.
    forgotten_jobs: int = 0
    # Committed records that were marked, by the word in `bridge_anomaly`.
    anomalies: dict[str, int] = msgspec.field(
        default_factory=lambda: {"duplicate": 0, "regression": 0}
    )
    # Dead letters of records that came after their job's last one.
    late: int = 0
    # Ended jobs that are remembered, and those that are too many for that.
    ended_jobs: int = 0
    forgotten_ends: int = 0
    # Whether the disk or the limit refuses rows now.
    full: bool = False
    # `time.monotonic` of the last commit that emptied the buffer, 0 for none.
    committed_at: float = 0.0
    # Held while a commit is counted.
    lock: Lock = msgspec.field(default_factory=Lock)

    def copied(self) -> OutboxStatistics:
        """Return what stood at one moment: no commit is counted by halves."""
        with self.lock:
            return msgspec.structs.replace(
                self,
                topics={one: copy(count) for one, count in self.topics.items()},
                dropped=dict(self.dropped),
            )
