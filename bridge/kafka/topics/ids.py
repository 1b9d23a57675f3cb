"""
Kafka's ids of topics, what tells a topic from one of the same name made anew, and
what this user may do with them.

aiokafka 0.14 speaks metadata up to version 5, ids came with version 10 (KIP-516,
Kafka 2.8). So that one version of the request is written down here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import msgspec
from aiokafka.errors import (  # noqa: TID251 - this room speaks to aiokafka
    IncompatibleBrokerVersion,
)
from aiokafka.protocol.api import (  # noqa: TID251 - as above
    Request,
    RequestStruct,
    Response,
)
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


__all__ = ["Metadata", "Shown", "ask_topics", "topic_ids"]

_METADATA = 3
_VERSION = 10
_NO_ID = uuid.UUID(int=0)


class Shown(msgspec.Struct, frozen=True):
    """
    What metadata shows of a topic that is there.

    Attributes:
        topic_id: Its id.
        operations: What this user may do with it: see `rights`.
    """

    topic_id: str
    operations: int


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


async def ask_topics(client: Any, names: Sequence[str]) -> dict[str, Shown]:
    """
    Ask a broker for topics.

    Args:
        client: A started `AIOKafkaClient` (0.14).
        names: The topics.

    Returns:
        What it shows by name, without topics that it doesn't know; empty if the
        broker is older than ids.

    Raises:
        aiokafka.errors.KafkaError: The broker doesn't answer.
    """
    node = client.get_random_node()
    if node is None:
        return {}
    try:
        answer = await client.send(node, Metadata(names))
    except (IncompatibleBrokerVersion, NotImplementedError):
        # aiokafka raises the second where it has no version that the broker has.
        return {}
    return {
        topic[1]: Shown(str(topic[2]), topic[5])
        for topic in answer.topics
        if topic[2] != _NO_ID
    }


async def topic_ids(client: Any, names: Sequence[str]) -> dict[str, str]:
    """Ask a broker for the ids of topics: as `ask_topics`."""
    shown = await ask_topics(client, names)
    return {name: one.topic_id for name, one in shown.items()}
