"""
The topics that the bridge writes to: looked up, verified, created.

What a topic must be like is known here; what is written to it is not.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog
from aiokafka import errors  # noqa: TID251 - this room speaks to aiokafka
from aiokafka.admin import (  # noqa: TID251 - this room speaks to aiokafka
    AIOKafkaAdminClient,
    NewTopic,
)
from aiokafka.admin.config_resource import (  # noqa: TID251 - as above
    ConfigResource,
    ConfigResourceType,
)

from bridge.errors import KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.connection import client_arguments, failed_start
from bridge.kafka.ending import end_client, start_client
from bridge.kafka.topic_ids import topic_ids
from bridge.settings import KafkaSettings


__all__ = ["TopicFacts", "look_up"]

_log = structlog.get_logger("bridge.kafka")

# Error codes of the protocol: https://kafka.apache.org/protocol#protocol_error_codes
_NONE = 0
_UNKNOWN_TOPIC = 3
_NO_LEADER_YET = 5
_INVALID_NAME = 17
_UNAUTHORISED = 29
_EXISTS = 36

# A topic just created has leaders within some 100 ms on one broker; other
# brokers learn of it a little later.
_SETTLE_TRIES = 50
_SETTLE_SECONDS = 0.2

# Kafka's own default of message.max.bytes, for where the topic's configuration
# may not be read (it takes DescribeConfigs, which the bridge can do without).
_DEFAULT_MAX_MESSAGE_BYTES = 1_048_588


class TopicFacts(msgspec.Struct, frozen=True):
    """
    What the relay has to know of a topic.

    Attributes:
        name: The topic.
        partitions: How many it has.
        max_message_bytes: What the broker takes as one batch.
        topic_id: Kafka's id of it; None if the brokers are older than ids.
    """

    name: str
    partitions: int
    max_message_bytes: int
    topic_id: str | None = None


async def look_up(
    settings: KafkaSettings, names: Sequence[str]
) -> dict[str, TopicFacts]:
    """
    Find topics; create missing ones where `kafka.create_topics` is on.

    Args:
        settings: How to reach Kafka, and what new topics are like.
        names: The topics.

    Returns:
        The facts of each, by name.

    Raises:
        KafkaUnreachableError: No broker answers.
        KafkaRefusedError: A topic is missing or forbidden; says what to do.
        ConfigError: A certificate or key can't be used.
    """
    async with _admin(settings) as admin:
        for attempt in range(_SETTLE_TRIES):
            codes = await _describe(admin, names)
            missing = [name for name in names if codes[name][0] == _UNKNOWN_TOPIC]
            if missing and attempt == 0 and settings.create_topics:
                await _create(admin, settings, missing)
            elif missing and not settings.create_topics:
                raise _missing(missing)
            elif all(code == _NONE for code, _ in codes.values()):
                ids = await topic_ids(admin._client, names)  # noqa: SLF001
                return {
                    name: TopicFacts(
                        name, count, await _max_bytes(admin, name), ids.get(name)
                    )
                    for name, (_, count) in codes.items()
                }
            else:
                _raise_for(codes)
            await asyncio.sleep(_SETTLE_SECONDS)
    raise KafkaUnreachableError(
        f"Kafka gives no leader for {', '.join(names)}; see that its brokers are up"
    )


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        **client_arguments(settings),
        request_timeout_ms=int(settings.start_timeout_seconds * 1000),
        retry_backoff_ms=int(settings.retry_backoff_seconds * 1000),
    )
    try:
        async with asyncio.timeout(settings.start_timeout_seconds):
            await start_client(admin.start)
        yield admin
    except (errors.KafkaConnectionError, TimeoutError) as error:
        raise await failed_start(settings) from error
    except errors.KafkaError as error:
        raise KafkaUnreachableError(
            f"Kafka at {settings.bootstrap_servers} didn't answer: {error!r}"
        ) from error
    finally:
        await end_client(admin._client, admin.close)  # noqa: SLF001


async def _describe(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Give (error code, partition count) by topic; a leaderless one is code 5."""
    found = {}
    for topic in await admin.describe_topics(list(names)):
        code, partitions = topic["error_code"], topic["partitions"]
        found[topic["topic"]] = (code, len(partitions))
    return found


async def _create(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, names: Sequence[str]
) -> None:
    answer = await admin.create_topics(
        [
            NewTopic(
                name=name,
                num_partitions=settings.partitions,
                replication_factor=settings.replication_factor,
            )
            for name in names
        ]
    )
    for name, code, message in answer.topic_errors:
        if code not in {_NONE, _EXISTS}:
            reason = message or errors.for_code(code).__name__
            raise KafkaRefusedError(
                f"Kafka refuses to create the topic {name}: {reason}. Look at"
                f" kafka.partitions ({settings.partitions}), at"
                f" kafka.replication_factor ({settings.replication_factor}) and at"
                " the user's right to Create, or create the topic yourself."
            )
        _log.info(
            "topic.created",
            topic=name,
            partitions=settings.partitions,
            replication_factor=settings.replication_factor,
        )


async def _max_bytes(admin: AIOKafkaAdminClient, name: str) -> int:
    resource = ConfigResource(
        ConfigResourceType.TOPIC, name, configs={"max.message.bytes": None}
    )
    for response in await admin.describe_configs([resource]):
        for entry in response.resources:
            code, *_, configs = entry
            if code != _NONE:
                break
            for config in configs:
                if config[0] == "max.message.bytes":
                    return int(config[1])
    return _DEFAULT_MAX_MESSAGE_BYTES


def _missing(names: Sequence[str]) -> KafkaRefusedError:
    many = len(names) > 1
    it = "them" if many else "it"
    return KafkaRefusedError(
        f"Kafka has no topic{'s' if many else ''} {' and '.join(names)}, or this user"
        f" may not see {it}. Create {it}, or let the bridge do so with"
        " kafka.create_topics (BRIDGE_KAFKA_CREATE_TOPICS=true)."
    )


def _raise_for(codes: dict[str, tuple[int, int]]) -> None:
    for name, (code, _) in codes.items():
        if code == _UNAUTHORISED:
            raise KafkaRefusedError(
                f"Kafka forbids this user the topic {name}: grant Describe and"
                " Write on it."
            )
        if code == _INVALID_NAME:
            raise KafkaRefusedError(f"Kafka takes no topic called {name!r}.")
        if code not in {_NONE, _UNKNOWN_TOPIC, _NO_LEADER_YET}:
            raise KafkaUnreachableError(
                f"Kafka can't describe the topic {name}:"
                f" {errors.for_code(code).__name__}"
            )
