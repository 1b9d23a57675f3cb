"""
The steps to Kafka: each address, its brokers, then topics, permissions and sizes.

The bridge's own `bridge.kafka.probe`, `topics` and `topic_checks` ask and judge, and so
does its client of the Schema Registry. Here the results become lines.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import trio

from bridge.check.server import reach_steps, shake_hands
from bridge.check.step import SkipError, Step
from bridge.errors import (
    ConnectError,
    ExitCode,
    KafkaError,
    KafkaRefusedError,
    RegistryUnknownSchemaError,
)
from bridge.framing import framing_of
from bridge.http.client import ApiClient, ApiError
from bridge.kafka.loop import run_in_thread
from bridge.kafka.probe import Knock, knock, places_of
from bridge.kafka.requests import TopicFacts
from bridge.kafka.security import tls_context
from bridge.kafka.topic_checks import TopicFinding, Verdict, report
from bridge.kafka.topics import NEEDED, WISHED, LookedUp, Rights, survey, topic_needs
from bridge.outbox.survey import SurveyedOutbox
from bridge.settings import KafkaSettings, Secret, Settings


__all__ = ["kafka_steps", "registry_steps"]

_SERVERS: Final = "kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS)"
_PROTOCOL: Final = "kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL)"
_BROKER_HINT: Final = f"See that {_SERVERS} names brokers, and {_PROTOCOL} is theirs"
_LISTENERS_HINT: Final = (
    "Set the brokers' advertised.listeners to addresses that this machine reaches, or"
    f" {_SERVERS} to a listener whose addresses it does"
)
_LOGS_HINT: Final = "Look at the brokers' logs"
_REGISTRY_HINT: Final = (
    "See that it runs, and that schema_registry.url (BRIDGE_SCHEMA_REGISTRY_URL) names"
    " it"
)
_REFUSED: Final = ExitCode.REFUSED_BY_KAFKA

# A broker answers within milliseconds, a new one within a second. A knock is two
# questions, and a moment for their thread.
_KNOCK_SECONDS: Final = 2.0
_KNOCKING_SECONDS: Final = 2 * _KNOCK_SECONDS + 0.5
_WEB_SECONDS: Final = 0.5
_TOPICS_SECONDS: Final = 6.0
_REGISTRY_SECONDS: Final = 2.7

_SIZE: Final = "max.message.bytes"
# `kafka.acls` reports these.
_OF_PERMISSIONS: Final = frozenset({"rights", "configuration"})


_Ask = Callable[[], Awaitable[Knock]]


class _Found(msgspec.Struct, frozen=True):
    """What the brokers have of all topics, and what the bridge wants of them."""

    looked_up: LookedUp
    rights: Rights
    findings: Mapping[str, Sequence[TopicFinding]]
    id_prefix: str | None


def kafka_steps(
    settings: Settings, outbox: Step[SurveyedOutbox | None]
) -> list[Step[Any]]:
    """Give the steps to the brokers; the outbox names the transactional ids."""
    kafka = settings.kafka
    servers = [_address_steps(kafka, host, port) for host, port in places_of(kafka)]
    brokers = Step(
        "kafka.brokers",
        "",
        partial(_reach_others, kafka, servers),
        _LISTENERS_HINT,
        needs=[steps[-1] for steps in servers],
        needs_one=True,
        seconds=_KNOCKING_SECONDS,
        exit_code=_REFUSED,
    )
    lookup = Step(
        "kafka.lookup",
        "",
        partial(_survey, settings, outbox),
        _LOGS_HINT,
        needs=[brokers],
        # A moment for the thread, and for the outbox.
        seconds=_TOPICS_SECONDS + 1.0,
        exit_code=_REFUSED,
    )
    topics: list[Step[Any]] = []
    for name in topic_needs(settings):
        topic = _step("kafka.topics", name, partial(_topic, kafka, lookup), lookup)
        topics += [
            topic,
            _step("kafka.acls", name, partial(_permissions, kafka, topic), topic),
            _step("kafka.sizes", name, partial(_size, lookup, topic), topic),
        ]
    writing = [_step("kafka.producer", "", partial(_producer, lookup), lookup)]
    if settings.delivery == "transactional":
        look = partial(_transactions, lookup)
        writing.append(_step("kafka.transactions", "", look, lookup))
    return [
        *(x for steps in servers for x in steps),
        brokers,
        lookup,
        *topics,
        *writing,
    ]


def _step(name: str, subject: str, look: Any, need: Step[Any]) -> Step[Any]:
    """Give a step about what `kafka.lookup` has found."""
    return Step(name, subject, look, _LOGS_HINT, needs=[need], exit_code=_REFUSED)


# -- Addresses -----------------------------------------------------------------


def _address_steps(kafka: KafkaSettings, host: str, port: int) -> list[Step[Any]]:
    """Give the steps to an address: the first that knocks has the knock as value."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    steps = reach_steps("kafka", address, _SERVERS, exit_code=_REFUSED)
    ask = partial(run_in_thread, partial(knock, kafka, host, port, _KNOCK_SECONDS))
    looks: dict[str, Any] = {}
    if kafka.security_protocol.endswith("SSL"):
        looks["kafka.tls"] = partial(_tls, kafka, ask)
    looks["kafka.broker"] = partial(_broker, ask)
    if kafka.security_protocol.startswith("SASL_"):
        looks["kafka.sasl"] = partial(_sasl, kafka)
    for name, look in looks.items():
        before = steps[-1]
        steps.append(
            Step(
                name,
                address,
                partial(look, before),
                _BROKER_HINT,
                needs=[before],
                seconds=_KNOCKING_SECONDS + _WEB_SECONDS,
                exit_code=_REFUSED,
            )
        )
    return steps


async def _tls(
    kafka: KafkaSettings, ask: _Ask, _: Step[None], step: Step[Knock]
) -> Knock:
    answer = await ask()
    if answer.error is not None and answer.is_tls:
        raise answer.error
    try:
        await shake_hands(step.subject, partial(tls_context, kafka), step)
    except ConnectError as error:
        # Its own hint would be about dryAPI's settings.
        known = answer.error if answer.is_asked else None
        raise known or KafkaError(error.message) from error
    return answer


async def _broker(ask: _Ask, before: Step[Knock | None], step: Step[Knock]) -> Knock:
    answer = before.value or await ask()
    if answer.error is not None and not answer.is_sign_in:
        if await _speaks_http(step.subject):
            raise KafkaError("a web server (HTTP) responds, and no broker")
        raise answer.error
    step.detail = (
        "speaks Kafka"
        if answer.is_asked
        else "accepts connections; without a token it isn't asked"
    )
    return answer


async def _speaks_http(address: str) -> bool:
    client = ApiClient(f"http://{address}", Secret(""), timeout_seconds=_WEB_SECONDS)
    try:
        await client.request("", max_bytes=0, token=None)
    except (ApiError, trio.TooSlowError):
        return False
    return True


async def _sasl(kafka: KafkaSettings, before: Step[Knock], step: Step[Knock]) -> Knock:
    if before.value.error is not None:
        raise before.value.error
    step.detail = f"signed in with {kafka.sasl_mechanism}"
    return before.value


async def _reach_others(
    kafka: KafkaSettings, servers: Sequence[Sequence[Step[Any]]], step: Step[None]
) -> None:
    """Knock at the addresses that the brokers send their clients to."""
    known: set[tuple[str, int]] = set()
    for steps in servers:
        if steps[-1].passed:
            known |= steps[-1].value.brokers
        for one in steps:
            one.spared = "other addresses of the list respond"
    problems: dict[str, str] = {}

    async def try_one(host: str, port: int) -> None:
        answer = await run_in_thread(partial(knock, kafka, host, port, _KNOCK_SECONDS))
        if answer.error is not None:
            problems[f"{host}:{port}"] = answer.error.message

    async with trio.open_nursery() as nursery:
        for host, port in known.difference(places_of(kafka)):
            nursery.start_soon(try_one, host, port)
    if problems:
        found = "; ".join(
            f"{where}: {what}" for where, what in sorted(problems.items())
        )
        raise KafkaError(f"the brokers send their clients to {found}")
    count = len(known)
    step.detail = "the one broker answers" if count == 1 else f"{count} answer"


# -- Topics and permissions ----------------------------------------------------


async def _survey(
    settings: Settings, outbox: Step[SurveyedOutbox | None], step: Step[_Found]
) -> _Found:
    kafka, needs = settings.kafka, topic_needs(settings)
    id_prefix = None
    if settings.delivery == "transactional":
        # As the producer names them; without an outbox the rest isn't known yet.
        id_prefix = f"{kafka.client_id}."
        if await outbox.wait() and outbox.value is not None:
            id_prefix += f"{outbox.value.id}."
    ask = partial(survey, kafka, needs, id_prefix, _TOPICS_SECONDS)
    looked_up, rights = await run_in_thread(ask)
    step.detail = f"{len(looked_up.facts)} of {len(needs)} topics exist"
    return _Found(looked_up, rights, report(looked_up, needs, kafka), id_prefix)


async def _topic(
    kafka: KafkaSettings, lookup: Step[_Found], step: Step[TopicFacts | None]
) -> TopicFacts | None:
    found, name = lookup.value, step.subject
    facts = found.looked_up.facts.get(name)
    if facts is None:
        if name in found.looked_up.problems:
            raise found.looked_up.problems[name]
        if not kafka.create_topics:
            (missing,) = found.findings[name]
            raise KafkaRefusedError(missing.found, hint=missing.remedy)
        if name in found.rights.creations:
            raise found.rights.creations[name]
        step.detail = "doesn't exist; the bridge can create it"
        return None
    step.detail = f"partitions: {facts.partitions}, replicas: {facts.replicas}"
    for one in found.findings[name]:
        if one.what != _SIZE and one.what not in _OF_PERMISSIONS:
            _warn(one, step)
    if not facts.is_led:
        step.warn(
            "a partition has no leader: its records wait",
            "See that the brokers of its replicas are up",
        )
    return facts


def _warn(finding: TopicFinding, step: Step[Any]) -> None:
    if finding.verdict is not Verdict.FINE:
        detail = f"{finding.what} is {finding.found}, wanted is {finding.needed}"
        step.warn(detail, finding.remedy)


def _facts(topic: Step[TopicFacts | None]) -> TopicFacts:
    if topic.value is None:
        raise SkipError("the topic")
    return topic.value


async def _permissions(
    kafka: KafkaSettings, topic: Step[TopicFacts | None], step: Step[None]
) -> None:
    facts = _facts(topic)
    lacks = facts.lacks(NEEDED)
    if lacks is None:
        step.detail = "these brokers don't report permissions"
        return
    if lacks:
        raise KafkaRefusedError(
            f"this user lacks {' and '.join(lacks)} on the topic",
            hint=_grant(facts.name, lacks, kafka),
        )
    step.detail = "Read, Write and Describe; no consumer group is used"
    if wished := facts.lacks(WISHED):
        step.warn(
            "this user lacks DescribeConfigs: the topic's configuration isn't checked",
            _grant(facts.name, wished, kafka),
        )


def _grant(name: str, operations: Iterable[str], kafka: KafkaSettings) -> str:
    """Give the command that grants permissions."""
    user = kafka.sasl_username or "<the bridge's user>"
    words = ["kafka-acls.sh", "--bootstrap-server", kafka.bootstrap_servers, "--add"]
    words += ["--allow-principal", f"User:{user}"]
    for operation in operations:
        words += ["--operation", operation]
    words += ["--topic", name]
    return f"Grant it: {shlex.join(words)}"


async def _size(
    lookup: Step[_Found], topic: Step[TopicFacts | None], step: Step[None]
) -> None:
    findings = lookup.value.findings[_facts(topic).name]
    step.detail = "the topic's configuration is hidden; Kafka's default is assumed"
    for one in findings:
        if one.what != _SIZE:
            continue
        if one.verdict is Verdict.MISSING:
            message = f"{_SIZE} is {one.found}, and {one.needed} is needed"
            raise KafkaRefusedError(message, hint=one.remedy)
        step.detail = f"{one.found} bytes a batch, {one.needed} wanted"
        _warn(one, step)


async def _producer(lookup: Step[_Found], step: Step[None]) -> None:
    if lookup.value.rights.producer is not None:
        raise lookup.value.rights.producer
    step.detail = "may write idempotently"


async def _transactions(lookup: Step[_Found], step: Step[None]) -> None:
    if lookup.value.rights.transactions is not None:
        raise lookup.value.rights.transactions
    step.detail = f"may use ids that start with {lookup.value.id_prefix}"


# -- The Schema Registry -------------------------------------------------------


def registry_steps(settings: Settings) -> list[Step[None]]:
    """Give a step for each topic with a schema; none without a registry."""
    if settings.schema_registry.url is None:
        return []
    return [
        Step(
            "schema_registry",
            topic,
            partial(_schema, settings),
            _REGISTRY_HINT,
            exit_code=_REFUSED,
        )
        for topic in (settings.topic, settings.gap_topic)
    ]


async def _schema(settings: Settings, step: Step[None]) -> None:
    given = settings.schema_registry
    # Looked up only; it is given up before the step is.
    seconds = min(given.timeout_seconds, _REGISTRY_SECONDS)
    asking = msgspec.structs.replace(given, register=False, timeout_seconds=seconds)
    framing = framing_of(msgspec.structs.replace(settings, schema_registry=asking))
    assert framing is not None
    try:
        prefix = await framing.prefix(step.subject)
    except RegistryUnknownSchemaError:
        if not given.register:
            raise
        step.detail = "not registered yet; the bridge registers it when it starts"
    else:
        step.detail = f"schema {int.from_bytes(prefix[1:])}"
