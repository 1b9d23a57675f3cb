"""
Topic ids and permissions; and the list of what aiokafka can't do, or does otherwise.

The bridge uses aiokafka 0.14 by its public API only. What that doesn't offer is asked
by requests of the bridge's own (`AIOKafkaClient.send`, the classes of
`aiokafka.protocol`); what it does otherwise is worked around. Each has a test that
fails when aiokafka moves: in `tests/kafka/topics/test_metadata.py`,
`tests/kafka/test_offsets.py`, or the one that is named.

Requests:

- Kafka's id of a topic, which tells it from one of the same name made later, and what
  this user may do with it (KIP-430). aiokafka speaks metadata up to version 5, ids came
  with version 10 (KIP-516, Kafka 2.8). `describe_topics`, `topic_ids`.
- Where a leader's log ends, beyond what is replicated: a consumer gets the high
  watermark. `offsets.ask_offsets` with `DEBUGGER`.
- Where a log ends for readers of committed records and for others, side by side: a
  consumer has one isolation level. `offsets.ask_offsets`, `held_offsets`.
- Whether a topic may be compacted: the admin client would be a third connection.
  `offsets.may_be_compacted`.
- An empty transaction that names partitions, which ends what an earlier one of its id
  has left open there (KAFKA-20734): a producer adds a partition only with records.
  `offsets.commit_empty`.

Workarounds:

- A producer never takes a sequence number back, so any failed batch spoils it: an epoch
  of the relay ends with it. Its `stop` waits for brokers that don't answer (issue
  1101): a task factory finds the tasks to cancel (`producer`).
- INVALID_RECORD (87) has no class, and looks like a broker's own bug: a single record
  that is refused again and again is a dead letter (`relay.epoch`).
- A refused token is no error of a connection's: `probe` shows the token itself.
- `getmany` fails for ever where one assigned partition has no position, so offsets are
  found first, and partitions assigned and sought without an await between (`log`,
  `reader`).
- `getmany` gives the loop no turn while it has records: the readers await `sleep(0)`.
- A consumer's `stop` takes the cancellation of a fetch for its own, and leaves its
  connections open: it is unsubscribed before it is stopped (`log`).
- A client's task that died is only logged: a partition that has a leader and doesn't
  answer for a minute shows it (`reader`;
  `test_reader_faults.py::test_a_client_that_died_is_replaced`).
- A consumer waits for ever at offsets that hold nothing any more at a log's end: two
  answers without a record show it (`log`;
  `test_scanner.py::test_an_end_that_holds_nothing_is_reached`).
- A password is a client's for life: the next epoch, or the reader's next client, has
  the new one.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec
from aiokafka.errors import (  # noqa: TID251 - this room speaks to aiokafka
    IncompatibleBrokerVersion,
)
from aiokafka.protocol.api import (  # noqa: TID251 - as above
    Request,
    RequestStruct,
    Response,
)
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251 - as above
from aiokafka.protocol.types import (  # noqa: TID251 - as above
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)


__all__ = ["Described", "Metadata", "describe_topics", "lacking", "topic_ids"]

# -- Topic ids and permissions: metadata of version 10 --------------------------

_METADATA: Final = 3
_VERSION: Final = 10
_NO_ID: Final = uuid.UUID(int=0)

# What a broker answers that doesn't tell what a user may do.
_NOT_TOLD: Final = -(2**31)


class Described(msgspec.Struct, frozen=True):
    """
    What metadata has of a topic.

    Attributes:
        error_code: The protocol's, 0 for one that is there.
        leaders: The broker that leads each partition, by number; -1 for none.
        replicas: How many the partition with the fewest has.
        topic_id: Its id; None if the broker is older than ids.
        operations: What this user may do with it, as bits: see `lacking`.
    """

    error_code: int
    leaders: Mapping[int, int]
    replicas: int
    topic_id: str | None = None
    operations: int = _NOT_TOLD


class _Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc] # aiokafka is untyped
    """The protocol's UUID: 16 bytes, the most significant first."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


# https://kafka.apache.org/protocol#The_Messages_Metadata, version 10.
class _Answer(Response):  # type: ignore[misc] # aiokafka is untyped
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc] # aiokafka is untyped
    API_KEY = _METADATA
    API_VERSION = _VERSION
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid),
                ("name", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class Metadata(Request[_Question]):  # type: ignore[misc] # aiokafka is untyped
    """
    The request: topics by name, none of which is created.

    It asks what this user may do with each as well (KIP-430).

    Args:
        names: The topics.
    """

    API_KEY = _METADATA

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """Give it in the one version that is known."""
        no_tags: dict[int, bytes] = {}
        topics = [(_NO_ID, name, no_tags) for name in self._names]
        return request_struct_class(topics, False, False, True, no_tags)


async def describe_topics(client: Any, names: Sequence[str]) -> dict[str, Described]:
    """
    Ask a broker for topics; none is created.

    Args:
        client: A started `AIOKafkaClient` (0.14).
        names: The topics.

    Returns:
        What it has of each, in this order.

    Raises:
        aiokafka.errors.KafkaError: The broker doesn't answer.
    """
    node = client.get_random_node()
    try:
        answer = await client.send(node, Metadata(names))
        found = {
            name: Described(
                code,
                *_placed(parts, 4),
                None if topic_id == _NO_ID else str(topic_id),
                operations,
            )
            for code, name, topic_id, _, parts, operations, _ in answer.topics
        }
    except (IncompatibleBrokerVersion, NotImplementedError):
        # aiokafka raises the second where it has no version that the broker has.
        request = MetadataRequest(list(names), allow_auto_topic_creation=False)
        answer = await client.send(node, request)
        found = {
            row[1]: Described(row[0], *_placed(row[-1], 3)) for row in answer.topics
        }
    return {name: found[name] for name in names}


def _placed(
    parts: Sequence[tuple[Any, ...]], replicas: int
) -> tuple[dict[int, int], int]:
    """Give leaders by partition and the fewest replicas, which are in that column."""
    leaders = {part[1]: part[2] for part in parts}
    return leaders, min((len(part[replicas]) for part in parts), default=0)


async def topic_ids(client: Any, names: Sequence[str]) -> dict[str, str]:
    """Ask for the ids of topics, without those that have none: as `describe_topics`."""
    if client.get_random_node() is None:
        return {}
    found = await describe_topics(client, names)
    return {name: one.topic_id for name, one in found.items() if one.topic_id}


def lacking(operations: int, wanted: Mapping[int, str]) -> tuple[str, ...] | None:
    """
    Tell what a user lacks of some rights.

    Args:
        operations: The bits, one for each AclOperation of the protocol (KIP-430).
        wanted: The rights by their bits.

    Returns:
        Their names; None if the broker doesn't tell.
    """
    if operations == _NOT_TOLD:
        return None
    return tuple(name for bit, name in wanted.items() if not operations >> bit & 1)
