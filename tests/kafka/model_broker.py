"""A broker as a model: logs in memory, and faults on demand.

It knows what Kafka promises and what it takes back: appended or not, answered or
not, late, refused, cut, trimmed, made anew, fenced. It stands in for aiokafka at the
seams of `bridge.kafka`: `Producer`, `open_log` and `look_up`. Real brokers are used
by the other tests; this one is for orders of events that nobody can bring about.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any
from unittest import mock

from aiokafka import errors  # noqa: TID251 - what real brokers answer

from bridge.errors import KafkaUnreachableError
from bridge.kafka import header_names as names
from bridge.kafka import opening, producers, resuming, transactional
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.log import Bounds
from bridge.kafka.topics import TopicFacts
from bridge.record import StoredRecord
from bridge.settings import KafkaSettings


__all__ = ["POISON", "Fault", "Log", "ModelBroker", "Written"]

# A record with this in its value is refused wherever it is sent.
POISON = b"poison"

_ANSWER_SECONDS = 0.004


class Fault(Enum):
    """What becomes of the next batch for a partition."""

    # Not appended, and said so.
    FAILED = auto()
    # Appended, but said to have failed.
    FAILED_AFTER_APPEND = auto()
    # Not appended now, but later, when everybody has given it up.
    LATE = auto()


@dataclass(frozen=True)
class Written:
    """A record in a log.

    Attributes:
        offset: Where it stands.
        outbox: Whose it is; None for somebody else's.
        ce_id: Its identity.
        sequence: Its lane sequence.
        key: Its key.
        value: Its value.
        is_marked: Whether it says that it was sent again.
        is_late: Whether it was appended after its producer had been given up.
        transaction: Which transaction wrote it; None for none.
    """

    offset: int
    outbox: bytes | None
    ce_id: bytes
    sequence: bytes
    key: bytes | None
    value: bytes
    is_marked: bool
    is_late: bool = False
    transaction: int | None = None


@dataclass
class Log:
    """A partition's log.

    Attributes:
        records: What it holds, by offset; None stands for a marker.
        begin_offset: What retention has left.
    """

    records: list[Written | None] = field(default_factory=list)
    begin_offset: int = 0

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return len(self.records)


class ModelBroker:
    """Topics, logs and producers; patch it in with `patched`.

    Attributes:
        logs: The logs by topic and partition.
        faults: What becomes of the next batches, by topic and partition.
        commit_faults: For the next commits without an answer: whether they are
            applied.
        is_away: Whether nobody reaches it.
        made_anew: Topics that were deleted and made again.
        excused: Values that were delivered and taken away by the topic's owner.
        history: Everything of ours that was ever appended, with its place.

    Args:
        topics: Partition counts by topic.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.topics = dict(topics)
        self.made_anew: set[str] = set()
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
        self.connection = _Connection()
        self.commit_faults: deque[bool] = deque()

    # -- What the world does to it --------------------------------------------

    def append_foreign(self, place: tuple[str, int]) -> None:
        """Somebody else writes a record."""
        log = self.logs[place]
        log.records.append(Written(log.end_offset, None, b"", b"0", None, b"", False))

    def land(self) -> None:
        """Append what was on its way from producers that were given up."""
        late, self.late = self.late, []
        for place, batch, transaction in late:
            if transaction is None or transaction in self.open.values():
                self._append(place, batch, transaction, is_late=True)

    def cut(self, place: tuple[str, int], count: int) -> None:
        """Lose the last records, as a broker with an older copy of its files."""
        log = self.logs[place]
        end = max(log.end_offset - count, log.begin_offset)
        if place[0] in self.made_anew:
            # Until that is noticed, acknowledgements of the new topic are taken for
            # the former one's, which took its records with it.
            self._excuse(one for one in log.records[end:] if one is not None)
        del log.records[end:]
        self.connection = _Connection()

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
        self.made_anew.add(topic)
        number = int(self.ids[topic].rsplit("-", 1)[1])
        self.ids[topic] = f"{topic}-{number + 1}"
        for place in self.logs:
            if place[0] == topic:
                self.logs[place] = Log()
        self._excuse(one for where, one in self.history if where[0] == topic)

    def _excuse(self, records: Iterable[Written]) -> None:
        self.excused |= {one.value for one in records if self.is_visible(one)}

    # -- What readers see ------------------------------------------------------

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

    # -- What producers do -----------------------------------------------------

    def _append(
        self,
        place: tuple[str, int],
        batch: list[Written],
        transaction: int | None,
        *,
        is_late: bool = False,
    ) -> int:
        log = self.logs[place]
        base = log.end_offset
        for index, one in enumerate(batch):
            written = replace(
                one, offset=base + index, transaction=transaction, is_late=is_late
            )
            log.records.append(written)
            self.history.append((place, written))
        return base

    def end(self, transaction: int, *, commits: bool) -> None:
        """End a transaction: its markers take an offset in each log it wrote to."""
        (self.committed if commits else self.aborted).add(transaction)
        for log in self.logs.values():
            if any(one and one.transaction == transaction for one in log.records):
                log.records.append(None)

    def patches(self) -> list[Any]:
        """What has to be patched for it to stand in for aiokafka."""

        def made(
            _: KafkaSettings,
            writer: HeaderWriter,
            transactional_id: str | None = None,
            **__: object,
        ) -> _Producer:
            return _Producer(self, writer, transactional_id)

        return [
            mock.patch.object(producers, "Producer", made),
            mock.patch.object(transactional, "Producer", made),
            mock.patch.object(opening, "look_up", self._look_up),
            *(
                mock.patch.object(module, "open_log", self._open_log)
                for module in (opening, resuming, transactional)
            ),
        ]

    async def _look_up(
        self, _: KafkaSettings, wanted: Sequence[str]
    ) -> dict[str, TopicFacts]:
        await self.answer()
        return {
            name: TopicFacts(name, self.topics[name], 1_000_000, self.ids[name])
            for name in wanted
        }

    @asynccontextmanager
    async def _open_log(self, _: KafkaSettings, topic: str) -> AsyncIterator[_ModelLog]:
        await self.answer()
        yield _ModelLog(self, topic)

    async def answer(self) -> None:
        """Take the time of an answer.

        Raises:
            KafkaUnreachableError: It is away.
        """
        await asyncio.sleep(_ANSWER_SECONDS)
        if self.is_away:
            raise KafkaUnreachableError("the model is away")


class _Connection:
    """Stands for a connection: another one after the broker came back."""


class _ModelLog:
    """A topic's log, as `bridge.kafka.log.Log` shows it."""

    def __init__(self, broker: ModelBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    async def topic_id(self) -> str:
        """The id that the topic has now."""
        await self._broker.answer()
        return self._broker.ids[self._topic]

    async def bounds(self, numbers: Collection[int]) -> dict[int, Bounds]:
        """Begin and high watermark."""
        await self._broker.answer()
        logs = {number: self._broker.logs[self._topic, number] for number in numbers}
        return {
            number: Bounds(log.begin_offset, log.end_offset)
            for number, log in logs.items()
        }

    async def replicated(self, _: Collection[int]) -> None:
        """The model has no replicas that could lag."""
        await self._broker.answer()

    async def records(
        self,
        firsts: Mapping[int, int],
        ends: Mapping[int, Bounds],
        *,
        aborted: bool = False,
    ) -> AsyncGenerator[tuple[int, list[SimpleNamespace]], None]:
        """What a consumer is given up to the ends."""
        for number, first in firsts.items():
            await self._broker.answer()
            found = [
                SimpleNamespace(offset=one.offset, headers=_headers(one))
                for one in self._broker.visible((self._topic, number), aborted=aborted)
                if first <= one.offset < ends[number].end_offset
            ]
            for begin in range(0, len(found), 3):
                yield number, found[begin : begin + 3]


def _headers(one: Written) -> list[tuple[str, bytes]]:
    if one.outbox is None:
        return []
    return [
        (names.BRIDGE_OUTBOX, one.outbox),
        (names.CE_ID, one.ce_id),
        (names.BRIDGE_SEQUENCE, one.sequence),
    ]


class _Sent:
    """A batch on its way, as `bridge.kafka.sent.Sent`."""

    def __init__(
        self, count: int, outcome: int | ClientError, connection: object
    ) -> None:
        self.count = count
        self.size_bytes = count
        self.connection = connection
        self._outcome = outcome
        self._has_answered = False

    async def base_offset(self) -> int:
        """The offset, or what went wrong."""
        if not self._has_answered:
            await asyncio.sleep(_ANSWER_SECONDS)
            self._has_answered = True
        if isinstance(self._outcome, int):
            return self._outcome
        raise self._outcome


class _Producer:
    """A producer of the model, as `bridge.kafka.producer.Producer`."""

    def __init__(
        self,
        broker: ModelBroker,
        writer: HeaderWriter,
        transactional_id: str | None,
    ) -> None:
        self._broker = broker
        self._writer = writer
        self._id = transactional_id
        self._epoch = 0
        self._transaction: int | None = None
        self.broken = False

    async def start(self) -> None:
        """Get an epoch: aborts what older ones of the same id left open."""
        await self._broker.answer()
        if self._id is not None:
            epochs = self._broker.epochs
            self._epoch = epochs[self._id] = epochs.get(self._id, 0) + 1
            left = self._broker.open.pop(self._id, None)
            if left is not None:
                self._broker.end(left, commits=False)

    async def connect(self, _: Sequence[str]) -> list[object]:
        """Connect ahead."""
        return [] if self._broker.is_away else [self._broker.connection]

    def connection(self, _: str, __: int) -> object:
        """The connection of now."""
        return self._broker.connection

    async def begin(self) -> None:
        """Begin a transaction."""
        assert self._id is not None
        broker = self._broker
        broker.transactions += 1
        self._transaction = broker.transactions
        if not self._is_fenced:
            broker.open[self._id] = self._transaction

    async def commit(self) -> None:
        """Commit, or leave open whether it was."""
        assert self._id is not None
        broker = self._broker
        await asyncio.sleep(_ANSWER_SECONDS)
        if self._is_fenced:
            raise errors.ProducerFenced
        assert self._transaction is not None
        is_lost = bool(broker.commit_faults)
        applies = broker.commit_faults.popleft() if is_lost else True
        if applies:
            del broker.open[self._id]
            broker.end(self._transaction, commits=True)
        if is_lost:
            raise ClientError("the answer to the commit was lost")

    @property
    def _is_fenced(self) -> bool:
        return self._id is not None and self._broker.epochs[self._id] != self._epoch

    async def send(
        self,
        topic: str,
        partition: int,
        records: Sequence[StoredRecord],
        max_bytes: int,
        *,
        marked_until: int = 0,
    ) -> _Sent:
        """Append a batch of at most four records, unless something is in the way."""
        del max_bytes
        broker, place = self._broker, (topic, partition)
        records = records[:4]
        if broker.is_away:
            raise ClientError("the model is away")
        outcome: int | ClientError
        batch = [self._written(one, marked_until) for one in records]
        fault = broker.faults[place].popleft() if broker.faults[place] else None
        if self._is_fenced:
            outcome = errors.ProducerFenced()
        elif self.broken:
            outcome = errors.OutOfOrderSequenceNumber()
        elif topic in broker.poisoned and any(POISON in one.value for one in records):
            outcome = BatchRefusedError(errors.MessageSizeTooLargeError())
        elif fault is None:
            outcome = broker._append(place, batch, self._transaction)
        else:
            outcome = ClientError(fault.name)
            if fault is Fault.FAILED_AFTER_APPEND:
                broker._append(place, batch, self._transaction)
            elif fault is Fault.LATE:
                broker.late.append((place, batch, self._transaction))
        if not isinstance(outcome, int):
            # As aiokafka's: one failed batch spoils it.
            self.broken = True
        return _Sent(len(batch), outcome, broker.connection)

    def _written(self, record: StoredRecord, marked_until: int) -> Written:
        headers = dict(
            self._writer.headers(record, is_resent=record.sequence <= marked_until)
        )
        return Written(
            -1,
            headers[names.BRIDGE_OUTBOX],
            headers[names.CE_ID],
            headers[names.BRIDGE_SEQUENCE],
            record.key,
            record.value,
            names.BRIDGE_ANOMALY in headers,
        )

    async def close(self) -> None:
        """End it; what is on its way may land late."""
        self.broken = True
