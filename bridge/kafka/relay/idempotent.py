"""
Idempotent delivery: every lane sends for itself, one batch on its way.

A lane sends at once when it is idle and batches while it is busy. A batch that
fails closes its lane; the others go on with another producer. There is no duplicate
unless a producer that was given up writes late: then with the same `ce_id`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Sequence

from bridge.errors import ConfigError, KafkaError
from bridge.events.record import StoredRecord
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.producer.answers import BatchRefusedError, ClientError
from bridge.kafka.relay.group import Group
from bridge.kafka.relay.lane import Lane
from bridge.kafka.relay.producers import Producers
from bridge.kafka.relay.publications import error_type
from bridge.kafka.relay.refusal import Refusals
from bridge.kafka.relay.resuming import Backoff, resume, verify
from bridge.kafka.relay.statistics import delivered


__all__ = ["IdempotentDelivery"]


class IdempotentDelivery:
    """
    Carries a group's lanes, each for itself.

    Args:
        group: What the lanes share.
        writer: Writes the headers.
    """

    wake = None

    def __init__(self, group: Group, writer: HeaderWriter) -> None:
        self._group = group
        self._producers = Producers(group.settings, writer, group.statistics)

    async def prepare(self) -> None:
        """Have a producer: see `Delivery.prepare`."""
        async with self._producers.lend():
            pass

    async def carry(self, lanes: Sequence[Lane]) -> None:
        """Send until all lanes are drained: see `Delivery.carry`."""
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                sender = _LaneSender(self._group, self._producers, lane)
                tasks.create_task(sender.run())

    async def close(self) -> None:
        """End the producers: see `Delivery.close`."""
        await self._producers.close()


class _LaneSender:
    """The sender of one lane."""

    def __init__(self, group: Group, producers: Producers, lane: Lane) -> None:
        self._group = group
        self._producers = producers
        self._lane = lane
        self._refusals = Refusals(group, lane)
        self._backoff = Backoff(group.settings.retry_backoff_seconds)
        # What the batch holds that failed last.
        self._on_way: list[StoredRecord] = []
        self._began_ns = 0

    async def run(self) -> None:
        """Send rows as they come, until the lane is drained."""
        lane, group = self._lane, self._group
        while await lane.gather():
            if lane.skip_found():
                group.outage.worked(lane.key)
                continue
            try:
                await self._send()
            except BatchRefusedError as error:
                self._trace_failure(error)
                group.outage.failed("lane.failed", error, lane.key)
                await self._refused(error)
            except (ClientError, ConfigError, KafkaError, TimeoutError) as error:
                self._trace_failure(error)
                group.outage.failed(
                    "lane.failed", error, lane.key, next_sequence=lane.next_sequence
                )
                await resume(
                    group,
                    lane,
                    self._backoff,
                    quiet_seconds=group.settings.resume_quiet_seconds,
                )

    async def _send(self) -> None:
        group, lane, statistics = self._group, self._lane, self._group.statistics
        rows = lane.offered(self._refusals.max_rows)
        self._on_way = rows
        topic, partition = lane.key
        started, self._began_ns = time.monotonic(), time.time_ns()
        group.outage.sending(lane.key)
        async with self._producers.lend() as producer:
            try:
                sent = await producer.send(
                    topic,
                    partition,
                    rows,
                    lane.batch_bytes,
                    marked_until=lane.resent_sequence,
                    prefix=group.prefixes.get(topic, b""),
                )
                self._on_way = rows[: sent.count]
                # The producer gives up what it has had for too long.
                base_offset = await sent.base_offset()
            except (ClientError, asyncio.CancelledError):
                # Whoever opens the lane next must not meet this batch in a queue.
                self._producers.give_up(producer)
                raise
        group.outage.worked(lane.key)
        statistics.publish_duration.observe(time.monotonic() - started)
        delivered(statistics, topic, self._on_way, lane.resent_sequence)
        if group.trace is not None:
            group.trace(
                topic,
                partition,
                self._on_way,
                self._began_ns,
                base_offset=base_offset,
                broker=sent.broker,
            )
        self._backoff.reset()
        connection = sent.connection
        start = lane.advance(sent.count, base_offset, sent.size_bytes, connection)
        if start is not None:
            await verify(group, lane, start, connection)
        self._refusals.passed()

    def _trace_failure(self, error: Exception) -> None:
        if self._group.trace is not None:
            self._group.trace(
                *self._lane.key,
                self._on_way,
                self._began_ns,
                error_type=error_type(error),
            )

    async def _refused(self, error: BatchRefusedError) -> None:
        """Have the record found that is refused, unless the log has it after all."""
        rows = self._on_way
        # The broker has answered: nothing lands late, and waiting helps nobody.
        self._lane.offered_sequence = 0
        self._backoff.reset()
        await resume(self._group, self._lane, self._backoff, quiet_seconds=0.0)
        if await self._lane.is_next(rows[0]):
            await self._refusals.refused(rows, error)
