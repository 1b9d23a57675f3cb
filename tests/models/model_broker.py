"""A broker as a model: logs in memory, and faults on demand.

It models what Kafka promises and what it takes back: appended or not, answered or not,
late, refused, truncated, trimmed, recreated, fenced, without a leader. It replaces
`Producer`, `open_log` and `look_up` of `bridge.kafka`. Real brokers are used by the
other tests; this one is for orders of events that can't be arranged with them.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from bridge.errors import KafkaUnreachableError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.relay import epoch, idempotent, topic_watch, transactional
from bridge.kafka.requests import TopicFacts
from bridge.kafka.topics import LookedUp
from bridge.settings import KafkaSettings
from tests.models.model_client import ModelLog, ModelProducer
from tests.models.model_log import ANSWER_SECONDS, CommitFault, Fault, Log, Written


class ModelBroker:
    """Topics, logs and producers; `patches` puts it in aiokafka's place.

    Attributes:
        logs: The logs by topic and partition.
        faults: What becomes of the next batches, by topic and partition.
        commit_faults: What becomes of the next commits without an answer.
        is_away: Whether no client reaches it.
        recreated: Topics that were deleted and made again.
        excused: Values that were delivered and taken away by the topic's owner.
        history: Everything of ours that was ever appended, with its place.

    Args:
        topics: Partition counts by topic.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.topics = dict(topics)
        self.recreated: set[str] = set()
        self.ids = {name: f"{name}-1" for name in topics}
        self.logs = {
            (name, number): Log()
            for name, count in topics.items()
            for number in range(count)
        }
        self.faults: dict[tuple[str, int], deque[Fault]] = {
            place: deque() for place in self.logs
        }
        self.poisoned: set[str] = set(topics)
        self.late: list[tuple[tuple[str, int], list[Written], int | None]] = []
        self.is_away = False
        self.excused: set[bytes] = set()
        self.history: list[tuple[tuple[str, int], Written]] = []
        self.epochs: dict[str, int] = {}
        self.committed: set[int] = set()
        self.aborted: set[int] = set()
        self.open: dict[str, int] = {}
        self.transactions = 0
        self.leaders = dict.fromkeys(self.logs, 1)
        # Partitions that have no leader now.
        self.leaderless: set[tuple[str, int]] = set()
        self.commit_faults: deque[CommitFault] = deque()
        self.late_commits: list[tuple[str, int, int]] = []

    def append_foreign(self, place: tuple[str, int]) -> None:
        """Another program writes a record."""
        log = self.logs[place]
        log.records.append(Written(log.end_offset, None, b"", b"0", None, b"", False))

    def land(self) -> None:
        """Append what was on its way from abandoned producers."""
        late, self.late = self.late, []
        for place, batch, transaction in late:
            if transaction is None or transaction in self.open.values():
                self.append(place, batch, transaction, is_late=True)
        commits, self.late_commits = self.late_commits, []
        for transactional_id, number, transaction in commits:
            # The coordinator refuses an epoch that is over.
            if self.epochs[transactional_id] == number:
                self.commit(transactional_id, transaction)

    def cut(self, place: tuple[str, int], count: int) -> None:
        """Lose the last records, as a new leader that lacks them does."""
        log = self.logs[place]
        end = max(log.end_offset - count, log.begin_offset)
        if place[0] in self.recreated:
            # Until that is noticed, acknowledgements of the new topic are taken for
            # the former one's, which took its records with it.
            self._excuse(one for one in log.records[end:] if one is not None)
        del log.records[end:]
        self.leaders[place] += 1

    def trim(self, place: tuple[str, int], count: int) -> None:
        """Delete records from the head: they were delivered."""
        log = self.logs[place]
        log.begin_offset = min(log.begin_offset + count, log.end_offset)
        self._excuse(
            one
            for where, one in self.history
            if where == place and one.offset < log.begin_offset
        )

    def remake(self, topic: str) -> None:
        """Delete a topic and make it again."""
        self.recreated.add(topic)
        number = int(self.ids[topic].rsplit("-", 1)[1])
        self.ids[topic] = f"{topic}-{number + 1}"
        for place in self.logs:
            if place[0] == topic:
                self.logs[place] = Log()
        self._excuse(one for where, one in self.history if where[0] == topic)

    def _excuse(self, records: Iterable[Written]) -> None:
        self.excused |= {one.value for one in records if self.is_visible(one)}

    def is_visible(self, record: Written) -> bool:
        """Whether a `read_committed` consumer is given it."""
        return record.transaction is None or record.transaction in self.committed

    def visible(
        self, place: tuple[str, int], *, aborted: bool = False
    ) -> list[Written]:
        """What a consumer sees of a partition: one that is `read_committed`, or any."""
        log = self.logs[place]
        return [
            one
            for one in log.records[log.begin_offset :]
            if one is not None and (aborted or self.is_visible(one))
        ]

    def held(self, topic: str) -> dict[int, int]:
        """Where open transactions begin, by partition."""
        held: dict[int, int] = {}
        for (name, number), log in self.logs.items():
            for one in log.records if name == topic else []:
                if one is not None and one.transaction in self.open.values():
                    held.setdefault(number, one.offset)
        return held

    def append(
        self,
        place: tuple[str, int],
        batch: list[Written],
        transaction: int | None,
        *,
        is_late: bool = False,
    ) -> int:
        """Append a batch; gives the offset of its first record."""
        log = self.logs[place]
        base = log.end_offset
        for index, one in enumerate(batch):
            written = replace(
                one, offset=base + index, transaction=transaction, is_late=is_late
            )
            log.records.append(written)
            self.history.append((place, written))
        return base

    def commit(self, transactional_id: str, transaction: int) -> None:
        """Commit what an id has open, unless that has ended already."""
        if self.open.get(transactional_id) == transaction:
            del self.open[transactional_id]
            self.end(transaction, commits=True)

    def end(self, transaction: int, *, commits: bool) -> None:
        """End a transaction: its markers take an offset in each log it wrote to."""
        (self.committed if commits else self.aborted).add(transaction)
        for log in self.logs.values():
            if any(one and one.transaction == transaction for one in log.records):
                log.records.append(None)

    def patches(self) -> list[Any]:
        """What has to be patched for it to replace aiokafka."""

        def made(
            _: KafkaSettings,
            writer: HeaderWriter,
            transactional_id: str | None = None,
            **_options: object,
        ) -> ModelProducer:
            return ModelProducer(self, writer, transactional_id)

        return [
            mock.patch.object(idempotent, "Producer", made),
            mock.patch.object(transactional, "Producer", made),
            mock.patch.object(topic_watch, "look_up", self._look_up),
            *(
                mock.patch.object(module, "open_log", self._open_log)
                for module in (epoch, transactional)
            ),
        ]

    async def _look_up(
        self, _: KafkaSettings, wanted: Sequence[str], __: object
    ) -> LookedUp:
        await self.answer()
        return LookedUp(
            {
                name: TopicFacts(
                    name,
                    dict.fromkeys(range(self.topics[name]), -1) | self.led(name),
                    1,
                    self.ids[name],
                    configs={"max.message.bytes": "1000000"},
                )
                for name in wanted
            }
        )

    def led(self, topic: str) -> dict[int, int]:
        """Return who leads each partition that has a leader."""
        return {
            place[1]: leader
            for place, leader in self.leaders.items()
            if place[0] == topic and place not in self.leaderless
        }

    @asynccontextmanager
    async def _open_log(
        self, _: KafkaSettings, topic: str, **__: object
    ) -> AsyncIterator[ModelLog]:
        await self.answer()
        yield ModelLog(self, topic)

    async def answer(self) -> None:
        """Take the time of an answer."""
        await asyncio.sleep(ANSWER_SECONDS)
        if self.is_away:
            raise KafkaUnreachableError("the model is away")
