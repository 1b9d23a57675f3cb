"""
The topics that the bridge writes to: looked up, and created where they are missing.

What they must be like stands in `report`, when they are looked at in
`topic_watch`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

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

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.client.connection import client_arguments
from bridge.kafka.client.diagnosis import failed_start
from bridge.kafka.client.ending import end_client, start_client
from bridge.kafka.topics.creation import Creation
from bridge.kafka.topics.ids import ask_topics
from bridge.kafka.topics.needs import READ_CONFIGS
from bridge.kafka.topics.rights import NEEDED, lacking
from bridge.settings import KafkaSettings


__all__ = ["LookedUp", "TopicFacts", "look_up"]

_log = structlog.get_logger("bridge.kafka")

# Error codes of the protocol: https://kafka.apache.org/protocol#protocol_error_codes
_NONE = 0
_UNKNOWN_TOPIC = 3
_NO_LEADER_YET = 5
_INVALID_NAME = 17
_UNAUTHORISED = 29
_CLUSTER_UNAUTHORISED = 31
_EXISTS = 36

# Error code and partitions by topic, as aiokafka gives them.
_Described = dict[str, tuple[int, list[dict[str, Any]]]]

# A topic just created has leaders within some 100 ms on one broker; other
# brokers learn of it a little later.
_SETTLE_TRIES = 50
SETTLE_SECONDS = 0.2

# Kafka's own default of message.max.bytes, for where the topic's configuration
# may not be read (it takes DescribeConfigs, which the bridge can do without).
_DEFAULT_MAX_MESSAGE_BYTES = 1_048_588


class TopicFacts(msgspec.Struct, frozen=True):
    """
    What is known of a topic.

    Attributes:
        name: The topic.
        partitions: How many it has.
        max_message_bytes: What the broker takes as one batch.
        topic_id: Kafka's id of it; None if the brokers are older than ids.
        replicas: How many its partition with the fewest has.
        is_led: Whether each of its partitions has a leader.
        configs: Its configuration, the brokers' defaults included, by name; None if
            this user may not read it.
        lacks: What this user may not do with it, of what the bridge needs; None if
            the brokers don't tell.
    """

    name: str
    partitions: int
    max_message_bytes: int
    topic_id: str | None = None
    replicas: int = 0
    is_led: bool = True
    configs: Mapping[str, str] | None = None
    lacks: tuple[str, ...] | None = None


class LookedUp(msgspec.Struct, frozen=True):
    """
    What came of a look at topics.

    Attributes:
        facts: Those that are there, by name.
        missing: Those that Kafka doesn't have, or doesn't show to this user.
        problems: Why others can't be used, by name.
    """

    facts: Mapping[str, TopicFacts]
    missing: tuple[str, ...] = ()
    problems: Mapping[str, KafkaError] = msgspec.field(default_factory=dict)


async def look_up(
    settings: KafkaSettings,
    names: Sequence[str],
    creations: Mapping[str, Creation] | None = None,
) -> LookedUp:
    """
    Find topics; create missing ones.

    Args:
        settings: How to reach Kafka.
        names: The topics.
        creations: Those that may be created, and what they are like then.

    Returns:
        What is known of each.

    Raises:
        KafkaUnreachableError: No broker answers.
        KafkaRefusedError: The brokers refuse this user.
        ConfigError: A certificate or key can't be used.
    """
    creations = creations or {}
    problems: dict[str, KafkaError] = {}
    tried: set[str] = set()
    async with _admin(settings) as admin:
        for _ in range(_SETTLE_TRIES):
            described = await _describe(admin, names)
            missing = [
                name
                for name, (code, _) in described.items()
                if code == _UNKNOWN_TOPIC and name in creations and name not in problems
            ]
            wanted = [creations[name] for name in missing if name not in tried]
            tried.update(missing)
            if wanted:
                problems |= await _create(admin, wanted)
            elif not missing and all(
                code != _NO_LEADER_YET for code, _ in described.values()
            ):
                break
            await asyncio.sleep(SETTLE_SECONDS)
        return await _told(admin, described, problems)


async def _told(
    admin: AIOKafkaAdminClient, described: _Described, problems: dict[str, KafkaError]
) -> LookedUp:
    """Put together what is known of topics."""
    there = [name for name, (code, _) in described.items() if code == _NONE]
    configs = await _configs(admin, there)
    shown = await ask_topics(admin._client, there) if there else {}  # noqa: SLF001
    facts, missing = {}, []
    for name, (code, partitions) in described.items():
        if name in problems:
            continue
        if code == _UNKNOWN_TOPIC:
            missing.append(name)
            continue
        if code != _NONE:
            problems[name] = _problem(name, code)
            continue
        own, seen = configs.get(name), shown.get(name)
        facts[name] = TopicFacts(
            name,
            len(partitions),
            int((own or {}).get("max.message.bytes", _DEFAULT_MAX_MESSAGE_BYTES)),
            None if seen is None else seen.topic_id,
            min((len(one["replicas"]) for one in partitions), default=0),
            all(one["leader"] >= 0 for one in partitions),
            own,
            None if seen is None else lacking(seen.operations, NEEDED),
        )
    return LookedUp(facts, tuple(missing), problems)


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
    # Not ready: the brokers that the first ones name don't let it in.
    except (
        errors.KafkaConnectionError,
        errors.NodeNotReadyError,
        TimeoutError,
    ) as error:
        raise await failed_start(settings) from error
    except errors.KafkaError as error:
        raise KafkaUnreachableError(
            f"Kafka at {settings.bootstrap_servers} didn't answer: {error!r}"
        ) from error
    finally:
        await end_client(admin._client, admin.close)  # noqa: SLF001


async def _describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> _Described:
    """Give error code and partitions by topic, in the order in which was asked."""
    found = {
        topic["topic"]: (topic["error_code"], topic["partitions"])
        for topic in await admin.describe_topics(list(names))
    }
    return {name: found[name] for name in names}


async def _create(
    admin: AIOKafkaAdminClient, wanted: Sequence[Creation]
) -> dict[str, KafkaError]:
    """Create topics; gives why some can't be."""
    answer = await admin.create_topics(
        [
            NewTopic(
                name=one.topic,
                num_partitions=one.partitions,
                replication_factor=one.replication_factor,
                topic_configs=dict(one.configs),
            )
            for one in wanted
        ]
    )
    by_name = {one.topic: one for one in wanted}
    problems: dict[str, KafkaError] = {}
    for name, code, message in answer.topic_errors:
        if code in {_UNAUTHORISED, _CLUSTER_UNAUTHORISED}:
            problems[name] = KafkaRefusedError(
                f"Kafka forbids this user to create the topic {name}. Grant the user"
                f" Create on the topic {name} (or on the cluster), or create the topic"
                " yourself."
            )
        elif code not in {_NONE, _EXISTS}:
            reason = message or errors.for_code(code).__name__
            problems[name] = KafkaRefusedError(
                f"Kafka refuses to create the topic {name}: {reason}. Look at"
                f" kafka.partitions ({by_name[name].partitions}) and at"
                f" kafka.replication_factor ({by_name[name].replication_factor}), or"
                " create the topic yourself."
            )
        elif code == _NONE:
            _log.info("topic.created", **msgspec.structs.asdict(by_name[name]))
    return problems


async def _configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Give what may be read of the topics' configurations, by topic."""
    if not names:
        return {}
    wanted = dict.fromkeys(READ_CONFIGS)
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted) for name in names
    ]
    found = {}
    for response in await admin.describe_configs(resources):
        for code, _, _, name, entries in response.resources:
            if code == _NONE:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _problem(name: str, code: int) -> KafkaError:
    if code == _UNAUTHORISED:
        return KafkaRefusedError(
            f"Kafka forbids this user the topic {name}. Grant the user Read and Write"
            f" on the topic {name}."
        )
    if code == _INVALID_NAME:
        return KafkaRefusedError(f"Kafka takes no topic called {name!r}.")
    if code == _NO_LEADER_YET:
        return KafkaUnreachableError(
            f"Kafka gives no leader for {name}; see that its brokers are up"
        )
    return KafkaUnreachableError(
        f"Kafka can't describe the topic {name}: {errors.for_code(code).__name__}"
    )
