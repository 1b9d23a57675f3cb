"""The model's stand-ins for a producer and a log that is read."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what is tested runs on asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from aiokafka import errors  # noqa: TID251 - what real brokers answer

from bridge.errors import KafkaUnreachableError
from bridge.events import header_names as names
from bridge.events.record import StoredRecord
from bridge.kafka.answers import BatchRefusedError, ClientError
from bridge.kafka.headers import HeaderWriter
from bridge.kafka.log import Bounds
from tests.models.model_log import ANSWER_SECONDS, POISON, CommitFault, Fault, Written


if TYPE_CHECKING:
    from tests.models.model_broker import ModelBroker


class ModelLog:
    """A topic's log, as `bridge.kafka.log.Log` shows it."""

    def __init__(self, broker: ModelBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def leaders(self) -> dict[int, int]:
        """Who leads each partition that has a leader."""
        return self._broker.led(self._topic)

    async def topic_id(self) -> str:
        """The id that the topic has now."""
        await self._broker.answer()
        return self._broker.ids[self._topic]

    async def bounds(self, numbers: Collection[int]) -> dict[int, Bounds]:
        """Begin and high watermark."""
        await self._broker.answer()
        self._check_leaders(numbers)
        logs = {number: self._broker.logs[self._topic, number] for number in numbers}
        return {
            number: Bounds(log.begin_offset, log.end_offset)
            for number, log in logs.items()
        }

    async def held(self) -> dict[int, int]:
        """Where transactions are open."""
        await self._broker.answer()
        return self._broker.held(self._topic)

    def _check_leaders(self, numbers: Collection[int]) -> None:
        if not self._broker.led(self._topic).keys() >= set(numbers):
            raise KafkaUnreachableError("a partition has no leader")

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
        """What a consumer receives until the ends."""
        for number, first in firsts.items():
            await self._broker.answer()
            self._check_leaders([number])
            begin = self._broker.logs[self._topic, number].begin_offset
            if max(first, ends[number].begin_offset) < min(
                begin, ends[number].end_offset
            ):
                raise KafkaUnreachableError("what is read was deleted")
            found = [
                SimpleNamespace(offset=one.offset, headers=_headers(one))
                for one in self._broker.visible((self._topic, number), aborted=aborted)
                if first <= one.offset < ends[number].end_offset
            ]
            for index in range(0, len(found), 3):
                yield number, found[index : index + 3]


def _headers(one: Written) -> list[tuple[str, bytes]]:
    if one.outbox is None:
        return []
    return [
        (names.BRIDGE_OUTBOX, one.outbox),
        (names.CE_ID, one.ce_id),
        (names.BRIDGE_SEQUENCE, one.sequence),
    ]


@dataclass(eq=False)
class _Sent:
    """A batch on its way, as `bridge.kafka.producer.Sent`."""

    rows: Sequence[StoredRecord]
    size_bytes: int
    outcome: int | ClientError
    began_ns: int = 1


class ModelProducer:
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

    def leader(self, topic: str, partition: int) -> int | None:
        """Who leads a partition now."""
        return self._broker.led(topic).get(partition)

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
        await asyncio.sleep(ANSWER_SECONDS)
        if self._is_fenced:
            raise errors.ProducerFenced
        assert self._transaction is not None
        fault = broker.commit_faults.popleft() if broker.commit_faults else None
        if fault in {None, CommitFault.APPLIED}:
            broker.commit(self._id, self._transaction)
        elif fault is CommitFault.LATE:
            broker.late_commits.append((self._id, self._epoch, self._transaction))
        if fault is not None:
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
        resent_until: int = 0,
        prefix: bytes = b"",
    ) -> _Sent:
        """Append a batch of at most four records, unless something is in the way."""
        del max_bytes
        assert not prefix  # the model's values are the outbox's
        broker, place = self._broker, (topic, partition)
        records = records[:4]
        if broker.is_away:
            raise ClientError("the model is away")
        outcome: int | ClientError
        batch = [self._written(one, resent_until) for one in records]
        fault = broker.faults[place].popleft() if broker.faults[place] else None
        if self._is_fenced:
            outcome = errors.ProducerFenced()
        elif self.broken:
            outcome = errors.OutOfOrderSequenceNumber()
        elif topic in broker.poisoned and any(POISON in one.value for one in records):
            outcome = BatchRefusedError(errors.MessageSizeTooLargeError())
        elif place in broker.leaderless:
            outcome = errors.LeaderNotAvailableError()
        elif fault is None:
            outcome = broker.append(place, batch, self._transaction)
        else:
            outcome = ClientError(fault.name)
            if fault is Fault.FAILED_AFTER_APPEND:
                broker.append(place, batch, self._transaction)
            elif fault is Fault.LATE:
                broker.late.append((place, batch, self._transaction))
        if not isinstance(outcome, int):
            # As aiokafka's: one failed batch spoils it.
            self.broken = True
        return _Sent(records, len(batch), outcome)

    @staticmethod
    async def base_offset(sent: _Sent) -> int:
        """The offset, or what went wrong."""
        await asyncio.sleep(ANSWER_SECONDS)
        if isinstance(sent.outcome, int):
            return sent.outcome
        raise sent.outcome

    def _written(self, record: StoredRecord, resent_until: int) -> Written:
        headers = dict(
            self._writer.headers(record, is_resent=record.sequence <= resent_until)
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
