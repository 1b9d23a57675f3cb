"""
Topics: what each is for, their metadata, their creation, and this user's permissions.

It uses one connection of its own, and writes nothing to a topic. What a topic must be
like is in `topic_checks`.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec
import structlog
from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest
from aiokafka.protocol.transaction import InitProducerIdRequest

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.answers import no_producer
from bridge.kafka.connection import unreachable
from bridge.kafka.probe import asking
from bridge.kafka.requests import (
    DEFAULT_MAX_MESSAGE_BYTES,
    TopicFacts,
    describe_topics,
    topic_configs,
)
from bridge.settings import KafkaSettings, Settings


__all__ = [
    "NEEDED",
    "NO_NEEDS",
    "WISHED",
    "Creation",
    "LookedUp",
    "Permissions",
    "TopicNeeds",
    "TopicRole",
    "creation",
    "creation_command",
    "look_up",
    "survey",
    "topic_needs",
]

_log = structlog.get_logger("bridge.kafka")

# -- What each topic is for -----------------------------------------------------

# The size of a batch with one record, without its value: key and headers below 4 KiB
# (see `refusal`), 61 bytes of the batch's own header, some 100 of fields' lengths and a
# registry's prefix of 5. Twice as much, for future headers.
_OVERHEAD_BYTES: Final = 8192

# A gap's record is JSON with a dozen short fields: below 1 KiB.
_GAP_BYTES: Final = 4096


class TopicRole(StrEnum):
    """What a topic is for."""

    EVENTS = "events"
    DEAD_LETTERS = "dead_letters"
    GAPS = "gaps"
    PREVIEWS = "previews"


class TopicNeeds(msgspec.Struct, frozen=True):
    """What a topic is for, and the largest value that will be written to it."""

    role: TopicRole
    value_bytes: int

    @property
    def batch_bytes(self) -> int:
        """What the topic must accept as one batch: its `max.message.bytes`."""
        return self.value_bytes + _OVERHEAD_BYTES


NO_NEEDS: Mapping[str, TopicNeeds] = MappingProxyType({})


def topic_needs(settings: Settings) -> dict[str, TopicNeeds]:
    """Return what a bridge with these settings needs of its topics, by name."""
    limits = settings.limits
    needs = {
        settings.topic: TopicNeeds(TopicRole.EVENTS, limits.event_bytes),
        settings.dead_letter_topic: TopicNeeds(
            TopicRole.DEAD_LETTERS, limits.event_bytes
        ),
        settings.gap_topic: TopicNeeds(TopicRole.GAPS, _GAP_BYTES),
    }
    if settings.previews == "topic":
        needs[settings.preview_topic] = TopicNeeds(
            TopicRole.PREVIEWS, limits.preview_bytes
        )
    return needs


# -- How they are made ----------------------------------------------------------

# By role: the policy, and the retention where it isn't the brokers' own.
_CREATED: Final = {
    TopicRole.EVENTS: ("delete", None),
    # A dead letter is useful until its cause is fixed. That may need an upgrade: longer
    # than the week that brokers usually keep records.
    TopicRole.DEAD_LETTERS: ("delete", 30 * 86_400_000),
    # The ledger: two records of half a kilobyte a gap, which are read for years.
    TopicRole.GAPS: ("delete", -1),
    # The latest of each job. Each job has its own key, so only compaction would keep
    # it forever. Like the events that refer to them, they have the brokers' retention.
    TopicRole.PREVIEWS: ("compact,delete", None),
}


class Creation(msgspec.Struct, frozen=True):
    """A topic to be created: name, partitions, replicas of each, configuration."""

    topic: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]


def creation(
    topic: str, all_needs: Mapping[str, TopicNeeds], settings: KafkaSettings
) -> Creation:
    """Return how to create a topic; with common configuration if it has no needs."""
    replicas = settings.replication_factor
    configs = {
        # With two, acknowledged records survive the loss of any one broker. With only
        # two replicas the bridge waits while one is unavailable: safer than less.
        "min.insync.replicas": str(min(2, replicas)),
        # A record's time is when the bridge read it.
        "message.timestamp.type": "CreateTime",
    }
    needs = all_needs.get(topic)
    if needs is None:
        return Creation(topic, settings.partitions, replicas, configs)
    most = needs.batch_bytes
    if needs.role is TopicRole.DEAD_LETTERS:
        # It must accept what another topic refuses.
        most = max(one.batch_bytes for one in all_needs.values())
    policy, retention_ms = _CREATED[needs.role]
    # Set in any case: brokers may have another default.
    configs["max.message.bytes"] = str(max(DEFAULT_MAX_MESSAGE_BYTES, most))
    configs["cleanup.policy"] = policy
    if retention_ms is not None:
        configs["retention.ms"] = str(retention_ms)
    # Gaps are few, and one partition has them in one order. Dead letters get as many as
    # events: a change of dryAPI's can make dead letters of all of them.
    partitions = 1 if needs.role is TopicRole.GAPS else settings.partitions
    return Creation(topic, partitions, replicas, configs)


def creation_command(creation: Creation, settings: KafkaSettings) -> str:
    """Give the command of Kafka's own tools that creates the same topic."""
    words = [
        "kafka-topics.sh",
        *("--bootstrap-server", settings.bootstrap_servers),
        *("--create", "--topic", creation.topic),
        *("--partitions", str(creation.partitions)),
        *("--replication-factor", str(creation.replication_factor)),
    ]
    for name, value in creation.configs.items():
        words += ("--config", f"{name}={value}")
    return shlex.join(words)


# -- What they are like ---------------------------------------------------------

# https://kafka.apache.org/protocol#protocol_error_codes
_NONE: Final = 0
_UNKNOWN_TOPIC: Final = 3
_NO_LEADER_YET: Final = 5
_INVALID_NAME: Final = 17
_FORBIDDEN: Final = frozenset({29, 31})
_EXISTS: Final = 36
_BAD_TIMEOUT: Final = 50

_READ_CONFIGS: Final = (
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.before.max.ms",
    # Its name before Kafka 3.6.
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.ms",
    "unclean.leader.election.enable",
)

# By the bit in a broker's answer (AclOperation). Read to resume: only the log shows
# what was written.
NEEDED: Final[Mapping[int, str]] = MappingProxyType(
    {3: "Read", 4: "Write", 8: "Describe"}
)
# To check a topic's configuration; the bridge works without.
WISHED: Final[Mapping[int, str]] = MappingProxyType({10: "DescribeConfigs"})

# A new topic has leaders within some 100 ms on one broker; other brokers follow a
# little later.
_LEADER_TRIES: Final = 50
LEADER_PAUSE_SECONDS = 0.2

# A broker gets its first producer ids from the controller within a tenth of a second.
_ID_TRIES: Final = 5
_ID_PAUSE_SECONDS: Final = 0.2

# Brokers refuse a transaction whose timeout is 0. They do so after they have checked
# the permission for the id, and before they create or fence anything (KafkaApis and
# TransactionCoordinator.handleInitProducerId).
_NO_TIMEOUT_MS: Final = 0


class LookedUp(msgspec.Struct, frozen=True):
    """The topics that exist, that are missing or hidden, and that can't be used."""

    facts: Mapping[str, TopicFacts]
    missing: tuple[str, ...] = ()
    problems: Mapping[str, KafkaError] = msgspec.field(default_factory=dict)


class Permissions(msgspec.Struct, frozen=True):
    """Why this user can't write in either mode, or create topics; None if it can."""

    producer: KafkaError | None
    transactions: KafkaError | None
    creations: Mapping[str, KafkaError]


async def look_up(
    settings: KafkaSettings,
    names: Sequence[str],
    creations: Mapping[str, Creation] | None = None,
) -> LookedUp:
    """Find topics; create missing ones. Raises why Kafka can't be used."""
    async with asking(settings) as client:
        return await _look_up(client, settings, names, creations or {})


async def survey(
    settings: KafkaSettings,
    all_needs: Mapping[str, TopicNeeds],
    id_prefix: str | None,
    seconds: float,
) -> tuple[LookedUp, Permissions]:
    """
    Find topics and what this user may do, within a deadline; nothing is changed.

    The transactional ids begin with the prefix; None is idempotent delivery.
    """
    try:
        async with asyncio.timeout(seconds), asking(settings) as client:
            found = await _look_up(client, settings, list(all_needs), {})
            wanted = found.missing if settings.create_topics else ()
            creations = [creation(name, all_needs, settings) for name in wanted]
            return found, Permissions(
                await _no_producer(client, None),
                None if id_prefix is None else await _no_producer(client, id_prefix),
                await _create(client, settings, creations, validate_only=True),
            )
    except TimeoutError as error:
        raise unreachable(settings, f"nothing within {seconds:g} s") from error


async def _look_up(
    client: Any,
    settings: KafkaSettings,
    names: Sequence[str],
    creations: Mapping[str, Creation],
) -> LookedUp:
    problems: dict[str, KafkaError] = {}
    tried: set[str] = set()
    for _ in range(_LEADER_TRIES):
        described = await describe_topics(client, names)
        missing = [
            name
            for name, topic in described.items()
            if topic.error_code == _UNKNOWN_TOPIC
            and name in creations
            and name not in problems
        ]
        wanted = [creations[name] for name in missing if name not in tried]
        tried.update(missing)
        if wanted:
            problems |= await _create(client, settings, wanted)
        elif not missing and all(
            topic.error_code != _NO_LEADER_YET for topic in described.values()
        ):
            break
        await asyncio.sleep(LEADER_PAUSE_SECONDS)
    existing = [name for name, topic in described.items() if topic.error_code == _NONE]
    configs = await topic_configs(client, existing, _READ_CONFIGS)
    facts, absent = {}, []
    for name, topic in described.items():
        if name in problems:
            continue
        if topic.error_code == _UNKNOWN_TOPIC:
            absent.append(name)
        elif topic.error_code != _NONE:
            problems[name] = _problem(name, topic.error_code)
        else:
            facts[name] = msgspec.structs.replace(topic, configs=configs.get(name))
    return LookedUp(facts, tuple(absent), problems)


async def _create(
    client: Any,
    settings: KafkaSettings,
    wanted: Iterable[Creation],
    *,
    validate_only: bool = False,
) -> dict[str, KafkaError]:
    """Create topics, or only validate that; return why some can't be created."""
    by_name = {one.topic: one for one in wanted}
    if not by_name:
        return {}
    asked: list[Any] = [
        (one.topic, one.partitions, one.replication_factor, [], [*one.configs.items()])
        for one in by_name.values()
    ]
    timeout_ms = int(settings.start_timeout_seconds * 1000)
    controller = client.cluster.controller
    node = client.get_random_node() if controller is None else controller.nodeId
    answer = await client.send(
        node, CreateTopicsRequest(asked, timeout_ms, validate_only)
    )
    problems: dict[str, KafkaError] = {}
    for name, code, message in answer.topic_errors:
        if code in _FORBIDDEN:
            problems[name] = KafkaRefusedError(
                f"Not authorized to create topic {name}",
                hint=f"Grant Create on the topic {name} (or on the cluster), or create"
                " it yourself",
            )
        elif code not in {_NONE, _EXISTS}:
            reason = message or errors.for_code(code).__name__
            problems[name] = KafkaRefusedError(
                f"Kafka refused to create {name}: {reason.rstrip('.')}",
                hint=f"Look at kafka.partitions ({by_name[name].partitions}) and"
                f" kafka.replication_factor ({by_name[name].replication_factor}), set"
                " by BRIDGE_KAFKA_PARTITIONS and BRIDGE_KAFKA_REPLICATION_FACTOR, or"
                " create it yourself",
            )
        elif code == _NONE and not validate_only:
            _log.info("topic.created", **msgspec.structs.asdict(by_name[name]))
    return problems


async def _no_producer(client: Any, id_prefix: str | None) -> KafkaError | None:
    """Return why this user gets no producer id; the request fences no producer."""
    # An unused id: a broker that isn't Apache's might accept the request.
    transactional_id = None if id_prefix is None else f"{id_prefix}check"
    request = InitProducerIdRequest(transactional_id, _NO_TIMEOUT_MS)
    for _ in range(_ID_TRIES):
        answer = await client.send(client.get_random_node(), request)
        error = errors.for_code(answer.error_code)
        # A broker that has just started asks to wait.
        if not error.retriable:
            break
        await asyncio.sleep(_ID_PAUSE_SECONDS)
    accepted = {_NONE} if id_prefix is None else {_NONE, _BAD_TIMEOUT}
    return None if answer.error_code in accepted else no_producer(error(), id_prefix)


def _problem(name: str, code: int) -> KafkaError:
    if code in _FORBIDDEN:
        return KafkaRefusedError(
            f"Not authorized for topic {name}",
            hint=f"Grant the user Read and Write on the topic {name}",
        )
    if code == _INVALID_NAME:
        return KafkaRefusedError(f"{name!r} isn't a valid topic name")
    if code == _NO_LEADER_YET:
        return KafkaUnreachableError(
            f"Kafka has no leader for {name}", hint="Check that its brokers are running"
        )
    return KafkaUnreachableError(
        f"Kafka can't describe the topic {name}: {errors.for_code(code).__name__}"
    )
