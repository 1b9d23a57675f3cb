"""
What the outbox counts: plain attributes with one writer each, and their metrics.

The Kafka thread writes what it commits, the trio thread what it offers and drops.
"""

from __future__ import annotations

import time
from copy import copy
from threading import Lock
from typing import Annotated, Final

import msgspec

from bridge.errors import DeadLetterReason
from bridge.events.dead_letter import DEAD_LETTERS
from bridge.metric import counter, gauge


__all__ = ["OutboxStatistics", "TopicCounts"]

_PREVIEWS_DROPPED: Final = counter(
    "bridge_previews_dropped",
    "Previews dropped because memory or disk ran short; no event was lost with them.",
)


class TopicCounts(msgspec.Struct):
    """
    What became of one topic's rows since the start; all but `waiting` only grow.

    `found + committed + resent = acknowledged + refused + waiting` after each commit.
    """

    found: Annotated[
        int, counter("bridge_rows_found", "Rows waiting when the outbox was opened.")
    ] = 0
    committed: Annotated[
        int, counter("bridge_rows_committed", "Rows that this process committed.")
    ] = 0
    resent: Annotated[
        int, counter("bridge_rows_resent", "Rows sent again: Kafka's log lost them.")
    ] = 0
    acknowledged: Annotated[
        int, counter("bridge_rows_acknowledged", "Rows that Kafka acknowledged.")
    ] = 0
    refused: Annotated[
        int, counter("bridge_rows_refused", "Rows that the broker refused for good.")
    ] = 0
    waiting: Annotated[
        int, gauge("bridge_rows_waiting", "Rows that wait for Kafka's acknowledgement.")
    ] = 0


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
    rows: Annotated[
        int, gauge("bridge_outbox_rows", "Committed records not yet acknowledged.")
    ] = 0
    held: Annotated[
        int, gauge("bridge_outbox_held", "Webhooks that wait for the socket's event.")
    ] = 0
    held_at_start: Annotated[
        int, gauge("bridge_outbox_held_at_start", "Webhooks held at the start.")
    ] = 0
    discarded: Annotated[
        int, counter("bridge_outbox_discarded", "Held webhooks that weren't needed.")
    ] = 0
    bytes: Annotated[
        int, gauge("bridge_outbox_bytes", "Size of database and WAL on disk.")
    ] = 0
    # When the oldest waiting row was read.
    oldest_received_at_us: int | None = None
    # Records that were offered, by the socket and by what heals, and how many of those
    # were committed, as rows or as held webhooks.
    accepted: Annotated[
        int, counter("bridge_outbox_accepted", "Records accepted into the buffer.")
    ] = 0
    committed: Annotated[
        int, counter("bridge_outbox_committed", "Records committed to the outbox.")
    ] = 0
    # Or the webhook is a repetition.
    superseded: Annotated[
        int,
        counter(
            "bridge_outbox_superseded",
            "Records that weren't needed: the job's own event came first.",
        ),
    ] = 0
    # Or their sender stopped waiting.
    withdrawn: Annotated[
        int,
        counter(
            "bridge_outbox_withdrawn",
            "Webhooks and status responses that the outbox had no space for; they are"
            " sent again.",
        ),
    ] = 0
    # Gap records that were committed; `accepted` doesn't count them.
    kept: int = 0
    # By what was exhausted: the buffer, or the disk or the limit.
    dropped: Annotated[
        dict[str, int],
        counter("bridge_events_dropped", "Dropped events, by cause.", "cause"),
    ] = msgspec.field(default_factory=lambda: {"overflow": 0, "outbox_full": 0})
    # Records that lost their preview, and nothing else; and those of previews only that
    # were dropped.
    dropped_previews: Annotated[int, _PREVIEWS_DROPPED] = 0
    dropped_pictures: Annotated[
        int,
        _PREVIEWS_DROPPED,
        counter("bridge_preview_records_dropped", "Dropped preview records."),
    ] = 0
    # Committed rows that could not be read of a damaged file.
    lost_rows: int = 0
    # Neither their topic nor the dead letters took them.
    unsendable: Annotated[
        int,
        gauge("bridge_outbox_unsendable", "Rows that Kafka refuses on every topic."),
    ] = 0
    forgotten_jobs: Annotated[
        int, counter("bridge_jobs_forgotten", "Unfinished jobs no longer remembered.")
    ] = 0
    anomalies: Annotated[
        dict[str, int],
        counter(
            "bridge_anomalies",
            "Records marked because of their job's state: the values of"
            " bridge_anomaly.",
            "anomaly",
        ),
    ] = msgspec.field(default_factory=lambda: {"duplicate": 0, "regression": 0})
    # Dead letters of records that came after their job's last one.
    late: Annotated[int, DEAD_LETTERS.of(reason=DeadLetterReason.AFTER_TERMINAL)] = 0
    ended_jobs: Annotated[
        int, gauge("bridge_jobs_ended", "Ended jobs that the outbox remembers.")
    ] = 0
    forgotten_ends: Annotated[
        int,
        counter(
            "bridge_jobs_ended_forgotten",
            "Ended jobs forgotten early, being too many: events after their end aren't"
            " recognized.",
        ),
    ] = 0
    full: Annotated[
        bool, gauge("bridge_outbox_full", "Whether the outbox refuses records (1).")
    ] = False
    # Held while a commit is counted.
    lock: Lock = msgspec.field(default_factory=Lock)

    @property
    def oldest_age_seconds(
        self,
    ) -> Annotated[
        float,
        gauge(
            "bridge_outbox_oldest_age_seconds",
            "Age of the oldest record that Kafka has not acknowledged; 0 without one.",
        ),
    ]:
        """How long ago the oldest waiting row was read, 0 if none waits."""
        if self.oldest_received_at_us is None:
            return 0.0
        # The clock may have been set back.
        return max(0.0, time.time() - self.oldest_received_at_us / 1_000_000)

    def copied(self) -> OutboxStatistics:
        """Return the values of one moment: no commit is counted by halves."""
        with self.lock:
            return msgspec.structs.replace(
                self,
                topics={one: copy(count) for one, count in self.topics.items()},
                dropped=dict(self.dropped),
            )
