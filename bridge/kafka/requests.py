"""
What the bridge asks brokers itself; and the list of what aiokafka can't do.

The bridge uses aiokafka 0.14 by its public API only: no private attribute, which Ruff
holds (SLF001) without an exception. Beside what aiokafka documents it imports the names
without an underscore of `aiokafka.client`, `aiokafka.conn` (in `probe`) and
`aiokafka.protocol`. What isn't offered is asked by requests of the bridge's own
(`AIOKafkaClient.send`); what is done otherwise is worked around.

A test for each fails when aiokafka moves: in `tests/kafka/test_aiokafka.py`, or in the
file of `tests/kafka` that is named.

Requests:

- Kafka's id of a topic, which a later one of the same name doesn't have, and what
  this user may do with it (KIP-430). aiokafka speaks metadata up to version 5, ids came
  with version 10 (KIP-516, Kafka 2.8). `describe_topics`;
  `test_metadata_has_no_topic_ids`.
- Where a leader's log ends, beyond what is replicated: a consumer gets the high
  watermark. And where it ends for readers of committed records and for others, side by
  side: a consumer has one isolation level. `ask_offsets` with `DEBUGGER`, `log.held`;
  `test_no_argument_asks_for_more`.
- Topics' configurations: the admin client would be a third connection.
  `topic_configs`; `test_no_argument_asks_for_more`.
- An empty transaction that names partitions, which ends what an earlier one of its id
  has left open there (KAFKA-20734): a producer adds a partition only with records.
  `commit_empty`; `test_an_empty_transaction_asks_no_broker`.

Workarounds of producers:

- None takes a sequence number back, so any failed batch spoils it: an epoch of the
  relay ends with it. `test_a_failed_batch_spoils_an_idempotent_producer`.
- `stop` waits for brokers that don't answer (issue 1101): a task factory finds the
  tasks to cancel. `test_stopping_a_producer_waits_for_brokers_that_are_away`.
- A batch may never get its answer (issue 1018): it is abandoned after a while.
  `relay/test_producer.py::test_a_batch_that_the_client_forgets_is_given_up`.
- While no leader is known, one is asked for without a pause: that ends the epoch.
  `relay/test_relay_faults.py::test_no_client_spins_while_no_leader_is_known_and_no_broker_answers`.
- A batch that the broker has already is acknowledged at no offset: the log is asked.
  `test_a_batch_that_the_broker_has_comes_without_its_offset`.
- INVALID_RECORD (87) has no class, and looks like a broker's own bug: a single record
  that is refused again and again is a dead letter. `test_invalid_record_has_no_class`.
- An id that has just committed waits 20 ms before it adds partitions: two take turns.
  `test_an_id_that_has_just_committed_waits`.

Workarounds of readers:

- `getmany` fails for ever where one assigned partition has no position, so offsets are
  found first, and partitions assigned and sought without an await between; and it gives
  the loop no turn while it has records, so `sleep(0)` is awaited.
  `test_a_partition_without_position_fails_all_and_records_give_no_turn`.
- A consumer's `stop` takes the cancellation of a fetch for its own, and leaves its
  connections open: it is unsubscribed before it is stopped.
  `test_a_consumer_stops_with_a_cancellation_of_its_own`.
- A task that died is only logged: a partition that has a leader and doesn't answer for
  a minute shows it. `test_a_client_whose_task_died_is_silent`.
- A position stays before offsets that hold nothing any more at a log's end: two answers
  without a record show it. `test_a_position_stays_before_offsets_that_hold_nothing`.

Workarounds of connections:

- A start that is cancelled forgets its connection: starts are shielded, and loops abort
  what is left. `test_a_start_that_is_cancelled_forgets_its_connection`.
- A refused token isn't an error of a connection's: `probe` shows the token itself.
  `test_what_a_broker_answers_to_a_token_is_not_looked_at`.
- A password and a TLS context are a client's for life: the next epoch, or the reader's
  next client, has the new password; the context follows its files.
  `test_no_argument_asks_for_more`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaClient, TopicPartition, errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


__all__ = [
    "CONSUMER",
    "DEBUGGER",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "EARLIEST",
    "LATEST",
    "Metadata",
    "TopicFacts",
    "ask_offsets",
    "commit_empty",
    "describe_topics",
    "may_be_compacted",
    "topic_configs",
]

_RETRY_SECONDS: Final = 0.2

# -- Offsets: where logs begin and end ------------------------------------------

# Moments that the protocol gives a meaning of their own.
EARLIEST: Final = -2
LATEST: Final = -1

# Who asks, as `replica_id` has it: a consumer sees what is replicated, a
# debugger also of what the leader alone has appended so far.
CONSUMER: Final = -1
DEBUGGER: Final = -2


async def ask_offsets(  # noqa: PLR0913 - choices of the protocol, each by name
    client: AIOKafkaClient,
    partitions: Iterable[TopicPartition],
    moment: int,
    *,
    committed_only: bool = False,
    asker: int = CONSUMER,
    needs_leaders: bool = False,
) -> dict[TopicPartition, int]:
    """
    Ask until every partition's leader has answered; the caller has the deadline.

    With `needs_leaders` a partition that has none is an error, and isn't waited for.

    The client knows the topics. A moment is `EARLIEST`, `LATEST` or milliseconds since
    the epoch; -1 is the answer where nothing is as young as that. With `committed_only`
    the latest offset is that behind the last record whose transaction has ended.
    """
    wanted, offsets = set(partitions), dict[TopicPartition, int]()
    while True:
        by_leader = _by_leader(client, wanted - offsets.keys(), needs_leaders)
        for leader, asked in by_leader.items():
            topics = defaultdict(list)
            for partition in asked:
                topics[partition.topic].append((partition.partition, moment))
            request = OffsetRequest(asker, int(committed_only), list(topics.items()))
            try:
                offsets |= _offsets(await client.send(leader, request))
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
        if offsets.keys() >= wanted:
            return offsets
        client.force_metadata_update()
        await asyncio.sleep(_RETRY_SECONDS)


def _by_leader(
    client: AIOKafkaClient,
    partitions: Iterable[TopicPartition],
    needs_leaders: bool,  # noqa: FBT001 - as the caller was given it
) -> dict[int, list[TopicPartition]]:
    """Give the partitions that each node leads, as far as known."""
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for partition in partitions:
        if partition.topic in client.cluster.unauthorized_topics:
            # Such a user can't learn who leads it.
            raise errors.TopicAuthorizationFailedError(partition.topic)
        leader = client.cluster.leader_for_partition(partition)
        if leader == -1 and needs_leaders:
            raise errors.LeaderNotAvailableError(partition)
        if leader is not None and leader >= 0:
            by_leader[leader].append(partition)
    return by_leader


def _offsets(response: object) -> dict[TopicPartition, int]:
    """Take the offsets out of an answer; those that failed are asked again."""
    found = {}
    for topic, parts in response.topics:  # type: ignore[attr-defined]
        for partition, code, _moment, offset, *_ in parts:
            error = errors.for_code(code)
            if error is errors.NoError:
                found[TopicPartition(topic, partition)] = offset
            elif not error.retriable:
                raise error(topic)
    return found


# -- Configurations -------------------------------------------------------------

_TOPIC_RESOURCE: Final = 2
_POLICY: Final = "cleanup.policy"


async def topic_configs(
    client: AIOKafkaClient, names: Iterable[str], keys: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Ask for configurations, by topic; without the topics that may not be read."""
    asked = [(_TOPIC_RESOURCE, name, list(keys)) for name in names]
    if not asked:
        return {}
    answer = await client.send(client.get_random_node(), DescribeConfigsRequest(asked))
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for code, _, _, name, entries in answer.resources
        if code == 0
    }


async def may_be_compacted(client: AIOKafkaClient, topic: str) -> bool:
    """Ask whether a topic's policy says so, or can't be read."""
    try:
        configs = await topic_configs(client, [topic], [_POLICY])
    except (errors.KafkaError, NotImplementedError):
        return True
    return "compact" in (configs.get(topic, {}).get(_POLICY) or "compact")


# -- An empty transaction -------------------------------------------------------


async def commit_empty(
    client: AIOKafkaClient,
    transactional_id: str,
    timeout_ms: int,
    topic: str,
    partitions: Iterable[int],
) -> None:
    """
    Commit a transaction that names partitions and holds nothing in them.

    Initializing the id fences every producer that has it. What can't be done yet
    is repeated; the caller has the deadline.
    """
    node = await client.coordinator_lookup(
        CoordinationType.TRANSACTION, transactional_id
    )
    begun = await _repeated(
        client, node, InitProducerIdRequest(transactional_id, timeout_ms)
    )
    producer = begun.producer_id, begun.producer_epoch
    topics = [(topic, list(partitions))]
    await _repeated(
        client, node, AddPartitionsToTxnRequest(transactional_id, *producer, topics)
    )
    await _repeated(client, node, EndTxnRequest(transactional_id, *producer, True))


async def _repeated(client: AIOKafkaClient, node: int, request: Any) -> Any:
    """Send a request until the coordinator has done it."""
    while True:
        answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
        if hasattr(answer, "error_code"):
            codes = [answer.error_code]
        else:
            codes = [code for _, parts in answer.errors for _, code in parts]
        kinds = map(errors.for_code, codes)
        failed = [error for error in kinds if error is not errors.NoError]
        if not failed:
            return answer
        # CONCURRENT_TRANSACTIONS: markers of the one before are being written.
        if not all(
            error.retriable or error is errors.ConcurrentTransactions
            for error in failed
        ):
            raise failed[0]
        await asyncio.sleep(_RETRY_SECONDS)


# -- Topic ids and permissions: metadata of version 10 --------------------------

_METADATA: Final = 3
_VERSION: Final = 10
_NO_ID: Final = uuid.UUID(int=0)

# What a broker answers that doesn't report what a user may do.
_NOT_REPORTED: Final = -(2**31)

# Kafka's default of max.message.bytes.
DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588


class TopicFacts(msgspec.Struct, frozen=True):
    """
    What metadata and configurations have of a topic.

    Attributes:
        name: The topic.
        leaders: The broker that leads each partition, by number; -1 for none.
        replicas: How many the partition with the fewest has.
        topic_id: Its id; None if the broker is older than ids.
        operations: What this user may do with it, as bits: see `lacks`.
        error_code: The protocol's, 0 for one that is there.
        configs: Its configuration, the brokers' defaults included, by name; None if
            this user may not read it.
    """

    name: str
    leaders: Mapping[int, int]
    replicas: int
    topic_id: str | None = None
    operations: int = _NOT_REPORTED
    error_code: int = 0
    configs: Mapping[str, str] | None = None

    @property
    def partitions(self) -> int:
        """How many it has."""
        return len(self.leaders)

    @property
    def max_message_bytes(self) -> int:
        """What the broker takes as one batch."""
        configs = self.configs or {}
        return int(configs.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))

    @property
    def is_led(self) -> bool:
        """Whether each of its partitions has a leader."""
        return all(leader >= 0 for leader in self.leaders.values())

    def lacks(self, wanted: Mapping[int, str]) -> tuple[str, ...] | None:
        """Name the permissions that this user lacks; AclOperation's bits (KIP-430)."""
        if self.operations == _NOT_REPORTED:
            return None
        return tuple(
            name for bit, name in wanted.items() if not self.operations >> bit & 1
        )


class _Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc] # aiokafka is untyped
    """The protocol's UUID: 16 bytes, the most significant first."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_STRING: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_BROKERS: Final = CompactArray(
    ("node_id", Int32), ("host", _STRING), ("port", Int32), ("rack", _STRING), _TAGS
)
_PARTITIONS: Final = CompactArray(
    *(("error_code", Int16), ("partition", Int32), ("leader", Int32)),
    *(("leader_epoch", Int32), ("replicas", CompactArray(Int32))),
    *(("isr", CompactArray(Int32)), ("offline_replicas", CompactArray(Int32)), _TAGS),
)
_TOPICS: Final = CompactArray(
    *(("error_code", Int16), ("name", _STRING), ("topic_id", _Uuid)),
    *(("is_internal", Boolean), ("partitions", _PARTITIONS)),
    *(("authorized_operations", Int32), _TAGS),
)


# https://kafka.apache.org/protocol#The_Messages_Metadata, version 10.
class _Answer(Response):  # type: ignore[misc] # aiokafka is untyped
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        *(("throttle_time_ms", Int32), ("brokers", _BROKERS)),
        *(("cluster_id", _STRING), ("controller_id", Int32), ("topics", _TOPICS)),
        *(("authorized_operations", Int32), _TAGS),
    )


class _Question(RequestStruct):  # type: ignore[misc] # aiokafka is untyped
    API_KEY = _METADATA
    API_VERSION = _VERSION
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _STRING), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class Metadata(Request[_Question]):  # type: ignore[misc] # aiokafka is untyped
    """Topics by name, none of which is created, and what this user may do with them."""

    API_KEY = _METADATA

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """Give it in the one version that is known."""
        no_tags: dict[int, bytes] = {}
        topics = [(_NO_ID, name, no_tags) for name in self._names]
        return request_struct_class(topics, False, False, True, no_tags)


async def describe_topics(client: Any, names: Sequence[str]) -> dict[str, TopicFacts]:
    """Ask a broker for topics, in this order; none is created."""
    node = client.get_random_node()
    try:
        answer = await client.send(node, Metadata(names))
        found = {
            name: TopicFacts(
                name,
                *_placed(parts, 4),
                None if topic_id == _NO_ID else str(topic_id),
                operations,
                code,
            )
            for code, name, topic_id, _, parts, operations, _ in answer.topics
        }
    except (errors.IncompatibleBrokerVersion, NotImplementedError):
        # aiokafka raises the second where it has no version that the broker has.
        request = MetadataRequest(list(names), allow_auto_topic_creation=False)
        answer = await client.send(node, request)
        found = {
            row[1]: TopicFacts(row[1], *_placed(row[-1], 3), error_code=row[0])
            for row in answer.topics
        }
    return {name: found[name] for name in names}


def _placed(
    parts: Sequence[tuple[Any, ...]], replicas: int
) -> tuple[dict[int, int], int]:
    """Give leaders by partition and the fewest replicas, which are in that column."""
    leaders = {part[1]: part[2] for part in parts}
    return leaders, min((len(part[replicas]) for part in parts), default=0)
