"""
The asyncio side of `scanner`: every offset of a topic up to where it ended.

Fetches raw batches, because a consumer that makes a whole object of every record
is four times too slow for a proof over millions. It belongs to no group.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room's library
import structlog
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - as above
from aiokafka.protocol.fetch import FetchRequest  # noqa: TID251 - as above
from aiokafka.structs import TopicPartition  # noqa: TID251 - as above

from bridge.errors import KafkaError, KafkaUnreachableError
from bridge.kafka.connection import (
    client_arguments,
    read_error,
    topic_missing,
)
from bridge.kafka.handover import Handover
from bridge.kafka.probe import failed_start
from bridge.kafka.producer.ending import end_client
from bridge.kafka.reading.batches import (
    CorruptBatchError,
    PartitionDecoder,
    ScannedRecord,
)
from bridge.kafka.reading.offsets import EARLIEST, LATEST, ask_offsets
from bridge.kafka.reading.scanned import Begin, Extent, Progress, Scanned
from bridge.settings import KafkaSettings


__all__ = ["Scanning"]

log = structlog.get_logger("bridge.kafka")

# What a broker may send at once and of one partition: at 700 bytes a record with
# headers, 3,000 records of each of four partitions.
FETCH_BYTES = 8 * 1024 * 1024
PARTITION_BYTES = 2 * 1024 * 1024
# How long a broker waits where there is nothing: only behind the last record that
# compaction has left.
_FETCH_WAIT_SECONDS = 0.5
# Two answers in a row without a byte, though the offsets exist: nothing is there.
_EMPTY_ANSWERS = 2
# Longer than a full fetch takes over 5 Mbit/s.
_REQUEST_TIMEOUT_SECONDS = 20.0
_RETRY_SECONDS = 0.5
# An election takes seconds; a proof that can't go on for longer has failed.
SILENT_SECONDS = 60.0
_DIAGNOSIS_SECONDS = 3.0


class Scanning:
    """
    Reads one topic to the ends that it had, and gives out what stands there.

    Whoever takes the parts does so in this thread: in another one, the two would
    wait for each other's turn at the interpreter for most of the time.

    Args:
        settings: How to reach the brokers.
        topic: What to read.
        since_ms: Where to start, milliseconds since the epoch; None starts at the
            beginning.
        committed_only: Whether records of aborted and open transactions are left
            out.
        begin: Is called in this thread before the first part.
        handover: Where progress is told.
    """

    def __init__(  # noqa: PLR0913 - each is one independent choice of the caller
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        since_ms: int | None,
        committed_only: bool,
        begin: Begin,
        handover: Handover[Progress],
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._since_ms = since_ms
        self._committed_only = committed_only
        self._begin = begin
        self._handover = handover
        self._open: dict[int, PartitionDecoder] = {}
        self._gone_before: dict[int, int] = {}
        self._empty: dict[int, int] = defaultdict(int)
        self._parts: list[Scanned] = []
        self._total = self._left = 0
        self._heard_at = 0.0

    async def run(self) -> None:
        """
        Read until the end, or until cancelled.

        Raises:
            KafkaUnreachableError: No broker answers.
            KafkaRefusedError: The topic is missing or may not be read.
            KafkaError: What was read can't be used.
            ConfigError: A certificate or key can't be used.
        """
        async with self._connected() as client:
            extents = await self._extents(client)
            take = self._begin(extents)
            for partition, extent in extents.items():
                self._gone_before[partition] = extent.log_start
                decoder = PartitionDecoder(
                    extent.start, extent.end, committed_only=self._committed_only
                )
                self._left += extent.end - extent.start
                if not decoder.is_done:
                    self._open[partition] = decoder
            self._total = self._left
            await self._read(client, take)

    # -- Before the first record ----------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaClient]:
        client = AIOKafkaClient(
            **client_arguments(self._settings),
            request_timeout_ms=int(_REQUEST_TIMEOUT_SECONDS * 1000),
            retry_backoff_ms=int(_RETRY_SECONDS * 1000),
        )
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await client.bootstrap()
            yield client
        except aiokafka_errors.KafkaConnectionError as error:
            raise await failed_start(self._settings, _DIAGNOSIS_SECONDS) from error
        except (TimeoutError, aiokafka_errors.KafkaError) as error:
            raise read_error(self._settings, [self._topic], error) from error
        finally:
            await end_client(client, client.close)

    async def _extents(self, client: AIOKafkaClient) -> dict[int, Extent]:
        """Find out what there is to read; the ends are asked for last."""
        async with asyncio.timeout(self._settings.start_timeout_seconds):
            # All topics: a broker may create one that is asked for by name.
            cluster = await client.fetch_all_metadata()
            partitions = cluster.partitions_for_topic(self._topic)
            if not partitions:
                missing = [self._topic]
                raise topic_missing(self._settings, missing, cluster.topics())
            await client.set_topics([self._topic])

            async def ask(moment: int, *, committed_only: bool = False) -> Any:
                return await ask_offsets(
                    client, self._topic, partitions, moment, committed_only
                )

            log_starts = await ask(EARLIEST)
            since = None if self._since_ms is None else await ask(self._since_ms)
            ends = await ask(LATEST, committed_only=self._committed_only)
            log_ends = await ask(LATEST)
        extents = {}
        for partition in sorted(partitions):
            end = ends[partition]
            # -1: nothing is as young as that.
            found = log_starts[partition] if since is None else since[partition]
            start = end if found < 0 else min(max(found, log_starts[partition]), end)
            extents[partition] = Extent(
                log_starts[partition], start, end, log_ends[partition]
            )
        return extents

    # -- Reading --------------------------------------------------------------

    async def _read(
        self, client: AIOKafkaClient, take: Callable[[Scanned], None]
    ) -> None:
        """Read until nothing is left."""
        self._heard_at = time.monotonic()
        asked = self._ask(client)
        try:
            while asked or self._open:
                moved = await asyncio.gather(*asked)
                parts, self._parts = self._parts, []
                if not any(moved):
                    await self._wait(client)
                asked = self._ask(client)
                # The next requests leave, and their answers come, meanwhile.
                await asyncio.sleep(0)
                for part in parts:
                    take(part)
                self._handover.put(Progress(self._total - self._left, self._total))
        finally:
            for task in asked:
                task.cancel()

    def _ask(self, client: AIOKafkaClient) -> list[asyncio.Task[bool]]:
        """Ask every broker for what is still to read of its partitions."""
        groups: dict[int, list[int]] = defaultdict(list)
        for partition in self._open:
            lane = TopicPartition(self._topic, partition)
            leader = client.cluster.leader_for_partition(lane)
            groups[-1 if leader is None else leader].append(partition)
        if groups.pop(-1, None):
            client.force_metadata_update()
        return [
            asyncio.ensure_future(self._fetch(client, node, group))
            for node, group in groups.items()
        ]

    async def _wait(self, client: AIOKafkaClient) -> None:
        """Wait a moment, for a limited time in all, where nothing came."""
        if time.monotonic() - self._heard_at > SILENT_SECONDS:
            raise KafkaUnreachableError(
                f"Kafka at {self._settings.bootstrap_servers} has given nothing of "
                f"{self._topic} for {SILENT_SECONDS:.0f} s, though more is there. "
                "Look at the brokers and run it again."
            )
        client.force_metadata_update()
        await asyncio.sleep(_RETRY_SECONDS)

    async def _fetch(
        self, client: AIOKafkaClient, node: int, partitions: list[int]
    ) -> bool:
        """
        Fetch once from one broker.

        Returns:
            Whether the scan has come further by it.
        """
        request = FetchRequest(
            int(_FETCH_WAIT_SECONDS * 1000),
            1,
            FETCH_BYTES,
            int(self._committed_only),
            [
                (
                    self._topic,
                    [(p, self._open[p].position, PARTITION_BYTES) for p in partitions],
                )
            ],
        )
        try:
            response = await client.send(node, request)
        except aiokafka_errors.KafkaError as error:
            if not error.retriable:
                raise
            log.warning("scan.interrupted", topic=self._topic, error=repr(error))
            return False
        parts = [part for _, found in response.topics for part in found]
        moved = await self._take(client, parts)
        if moved:
            self._heard_at = time.monotonic()
        if moved or response.throttle_time_ms or len(parts) < len(partitions):
            self._empty[node] = 0
            return moved
        self._empty[node] += 1
        return self._empty[node] >= _EMPTY_ANSWERS and self._end_empty(parts)

    async def _take(self, client: AIOKafkaClient, parts: Iterable[Any]) -> bool:
        """Take each partition's part of an answer; tell whether any moved."""
        moved = False
        for partition, code, high_watermark, *rest in parts:
            decoder = self._open[partition]
            error = aiokafka_errors.for_code(code)
            if error is aiokafka_errors.OffsetOutOfRangeError:
                await self._jump(client, partition, decoder)
                moved = True
            elif error is not aiokafka_errors.NoError:
                if not error.retriable:
                    raise error(self._topic)
            elif rest[-1]:
                self._decode(partition, decoder, rest, high_watermark)
                moved = True
        return moved

    def _decode(
        self, partition: int, decoder: PartitionDecoder, rest: Any, log_end: int
    ) -> None:
        """Decode one partition's batches and hand the records over."""
        # Fetch answers of versions 4 to 11 end with these: aborted transactions,
        # from 11 on a replica's number, the batches.
        aborted = next((part for part in rest if isinstance(part, list)), [])
        before = decoder.position
        try:
            records = decoder.decode(rest[-1], aborted)
        except CorruptBatchError as error:
            raise KafkaError(
                f"{self._topic}, partition {partition}: {error}. The broker's disk or "
                "the way to it has damaged it."
            ) from error
        if decoder.position == before:
            raise KafkaError(
                f"{self._topic}, partition {partition}: the batch at offset {before} "
                f"came incomplete (end of the log: {log_end})."
            )
        self._note(partition, decoder, records, before)

    def _end_empty(self, parts: Iterable[Any]) -> bool:
        """End partitions whose last offsets hold nothing any more."""
        moved = False
        for partition, code, high_watermark, stable_end, *_ in parts:
            decoder = self._open[partition]
            known_end = stable_end if self._committed_only else high_watermark
            if code == 0 and known_end >= decoder.end:
                before = decoder.position
                records = decoder.skip_to(decoder.end)
                self._note(partition, decoder, records, before)
                moved = True
        return moved

    async def _jump(
        self, client: AIOKafkaClient, partition: int, decoder: PartitionDecoder
    ) -> None:
        """Go on where a log begins now: records went while they were being read."""
        lanes = {partition}
        async with asyncio.timeout(SILENT_SECONDS):
            starts: Mapping[int, int] = await ask_offsets(
                client, self._topic, lanes, EARLIEST, False
            )
        start = starts[partition]
        if start <= decoder.position:
            raise KafkaError(
                f"{self._topic}, partition {partition}: the log has become shorter "
                f"than offset {decoder.position} while it was read; it lost records, "
                "or the topic was made anew. Run it again."
            )
        log.warning("scan.jumped", partition=partition, to=start)
        self._gone_before[partition] = start
        before = decoder.position
        records = decoder.skip_to(start)
        self._note(partition, decoder, records, before)

    def _note(
        self,
        partition: int,
        decoder: PartitionDecoder,
        records: Iterable[ScannedRecord],
        before: int,
    ) -> None:
        """Keep a part for whoever takes it, and ask the partition last next time."""
        # What a broker sends at once is for the first ones.
        del self._open[partition]
        if not decoder.is_done:
            self._open[partition] = decoder
        self._left -= decoder.position - before
        self._parts.append(
            Scanned(
                partition=partition,
                records=records,
                absent=lambda: decoder.absent,
                gone_before=self._gone_before[partition],
            )
        )
