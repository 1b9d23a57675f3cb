"""
Records that the broker refuses: how the one in a batch is found, where it goes.

A batch is refused as a whole. It is halved until one record is left; that one goes
to the dead letters, and what is refused even there to the outbox's quarantine. So
one record never stops its lane.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from bridge.events.dead_letter import refused
from bridge.events.record import StoredRecord
from bridge.kafka.asking import answer
from bridge.kafka.producer.answers import BatchRefusedError
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.statistics import add


__all__ = ["Refusals"]

_log = structlog.get_logger("bridge.kafka")

# More rows than any batch holds: what a lane offers while nothing is refused.
_ALL_ROWS = 2000

# A single record is offered so often before it counts as refused for good: a batch
# that was damaged on its way is refused too (CORRUPT_MESSAGE), once.
_TRIES = 2

# What a dead letter's key and headers take at most, beside its value.
_HEADERS_BYTES = 4096


class Refusals:
    """
    A lane's way around records that are refused.

    Args:
        group: What the lane shares with others.
        lane: The lane.

    Attributes:
        max_rows: How many rows the next batch may have.
    """

    def __init__(self, group: Group, lane: Lane) -> None:
        self._group = group
        self._lane = lane
        self.max_rows = _ALL_ROWS
        self._narrow_until = 0
        self._suspect: str | None = None
        self._tries = 0

    def passed(self) -> None:
        """Note that rows were taken; widens again past those that were refused."""
        if self._lane.next_sequence > self._narrow_until:
            self.max_rows = _ALL_ROWS

    async def refused(
        self, rows: Sequence[StoredRecord], error: BatchRefusedError
    ) -> None:
        """
        Send half of a refused batch next, or put a single record aside.

        Args:
            rows: What the batch held; the lane's next rows.
            error: Why it was refused.
        """
        if len(rows) > 1:
            self._narrow_until = max(self._narrow_until, rows[-1].sequence)
            self.max_rows = len(rows) // 2
            return
        row = rows[0]
        if self._suspect != row.ce_id:
            self._suspect, self._tries = row.ce_id, 0
            self._narrow_until = max(self._narrow_until, row.sequence)
            self.max_rows = 1
        self._tries += 1
        if self._tries >= _TRIES:
            await self._put_aside(row, error)
            self.passed()

    async def _put_aside(self, row: StoredRecord, error: BatchRefusedError) -> None:
        topic, partition = self._lane.key
        group = self._group
        target = group.dead_letter_topic
        if target is None or topic == target:
            target = None
            await answer(
                group.outbox.quarantine(topic, partition, row.sequence, error.message)
            )
        else:
            dead_letter = refused(
                row,
                topic=topic,
                partition=partition,
                dead_letter_topic=target,
                max_bytes=self._dead_letter_bytes(target),
                message=error.message,
                error_class=error.error_class,
            )
            await answer(
                group.outbox.refuse(topic, partition, row.sequence, dead_letter)
            )
            group.statistics.dead_letters += 1
        self._lane.pass_over(row.sequence)
        add(group.statistics.refused, topic, 1)
        _log.error(
            "record.refused",
            topic=topic,
            partition=partition,
            sequence=row.sequence,
            ce_id=row.ce_id,
            size_bytes=len(row.value) + len(row.key or b""),
            reason=error.message,
            goes_to=target or "quarantine",
        )

    def _dead_letter_bytes(self, target: str) -> int:
        most = self._group.max_dead_letter_bytes
        limit = self._group.limits.get(target)
        return most if limit is None else max(min(most, limit - _HEADERS_BYTES), 0)
