"""
The steps to Kafka: each address, its brokers, then topics, permissions and sizes.

The bridge's own `bridge.kafka.probe`, `topics` and `topic_checks` ask and judge, and so
does its client of the Schema Registry. Here the results become lines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec
import trio

from bridge.check.server import add_server, shake_hands
from bridge.check.step import SkipError, Step, Steps
from bridge.errors import (
    ConnectError,
    ExitCode,
    KafkaError,
    KafkaRefusedError,
    RegistryUnknownSchemaError,
)
from bridge.http.client import ApiClient, ApiError
from bridge.kafka.loop import run_in_thread
from bridge.kafka.probe import ProbeResult, places_of, probe
from bridge.kafka.requests import TopicFacts
from bridge.kafka.security import tls_context
from bridge.kafka.topic_checks import TopicFinding, Verdict, report
from bridge.kafka.topics import LookedUp, Permissions, survey, topic_needs
from bridge.outbox.survey import SurveyedOutbox
from bridge.schemas.registry import SchemaRegistry
from bridge.settings import KafkaSettings, Settings


__all__ = ["add_kafka", "add_registry"]

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

# A broker answers within milliseconds, a new one within a second. A probe is two
# questions, and a moment for their thread; a handshake or a web server may follow.
_PROBE_SECONDS: Final = 2.0
_PROBE_STEP_SECONDS: Final = 2 * _PROBE_SECONDS + 1.0
_WEB_SECONDS: Final = 0.5
_TOPICS_SECONDS: Final = 6.0
# Less than the step has.
_REGISTRY_SECONDS: Final = 2.7

# The findings of `kafka.acls` and of `kafka.sizes`.
_PERMISSIONS: Final = frozenset({"permissions", "configuration"})
_SIZES: Final = frozenset({"max.message.bytes"})


class _Found(msgspec.Struct, frozen=True):
    """What the brokers have of all topics, and what the bridge wants of them."""

    looked_up: LookedUp
    permissions: Permissions
    findings: Mapping[str, Sequence[TopicFinding]]
    id_prefix: str | None


def add_kafka(
    steps: Steps, settings: Settings, outbox: Step[SurveyedOutbox | None]
) -> None:
    """Add the steps to the brokers; the outbox names the transactional ids."""
    kafka, needs = settings.kafka, topic_needs(settings)
    begun = len(steps)
    last = [_add_address(steps, kafka, host, port) for host, port in places_of(kafka)]
    of_addresses = steps[begun:]
    step = partial(steps.step, exit_code=_REFUSED)

    @step(
        "kafka.brokers",
        "",
        _LISTENERS_HINT,
        needs=last,
        needs_one=True,
        seconds=_PROBE_STEP_SECONDS,
    )
    async def brokers(step: Step[None]) -> None:
        for one in of_addresses:
            one.spared = "other addresses of the list respond"
        known = {place for one in last if one.passed for place in one.value.brokers}
        await _reach(kafka, known.difference(places_of(kafka)))
        count = len(known)
        step.detail = "the one broker answers" if count == 1 else f"{count} answer"

    is_transactional = settings.delivery == "transactional"

    @step("kafka.lookup", "", _LOGS_HINT, needs=[brokers], seconds=_TOPICS_SECONDS + 1)
    async def lookup(step: Step[_Found]) -> _Found:
        prefix = None
        if is_transactional:
            # As the producer names them; without an outbox the rest isn't known yet.
            found = await outbox.wait() and outbox.value
            prefix = f"{kafka.client_id}." + (f"{found.id}." if found else "")
        ask = partial(survey, kafka, needs, prefix, _TOPICS_SECONDS)
        looked_up, permissions = await run_in_thread(ask)
        step.detail = f"{len(looked_up.facts)} of {len(needs)} topics exist"
        return _Found(looked_up, permissions, report(looked_up, needs, kafka), prefix)

    for name in needs:
        _add_topic(steps, name, kafka, lookup)
    _add_producers(steps, lookup, is_transactional=is_transactional)


def _add_producers(
    steps: Steps, lookup: Step[_Found], *, is_transactional: bool
) -> None:
    """Add whether this user may write as the bridge does."""
    step = partial(steps.step, exit_code=_REFUSED, needs=[lookup])

    @step("kafka.producer", "", _LOGS_HINT)
    async def _(step: Step[None]) -> None:
        if lookup.value.permissions.producer is not None:
            raise lookup.value.permissions.producer
        step.detail = "may write idempotently"

    if is_transactional:

        @step("kafka.transactions", "", _LOGS_HINT)
        async def _(step: Step[None]) -> None:
            if lookup.value.permissions.transactions is not None:
                raise lookup.value.permissions.transactions
            step.detail = f"may use ids that start with {lookup.value.id_prefix}"


# -- Addresses -----------------------------------------------------------------


def _add_address(
    steps: Steps, kafka: KafkaSettings, host: str, port: int
) -> Step[ProbeResult]:
    """Add the steps to an address, and give the last one."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    tcp = add_server(steps, "kafka", address, _SERVERS, exit_code=_REFUSED)
    ask = partial(run_in_thread, partial(probe, kafka, host, port, _PROBE_SECONDS))
    step = partial(steps.step, exit_code=_REFUSED, seconds=_PROBE_STEP_SECONDS)
    before: Step[Any] = tcp
    if kafka.security_protocol.endswith("SSL"):
        look = partial(_open_tls, kafka, ask)
        before = step("kafka.tls", address, _BROKER_HINT, needs=[tcp])(look)

    @step("kafka.broker", address, _BROKER_HINT, needs=[before])
    async def broker(step: Step[ProbeResult]) -> ProbeResult:
        answer: ProbeResult = before.value or await ask()
        if answer.error is not None and not answer.is_sign_in:
            if await _speaks_http(address):
                raise KafkaError("a web server (HTTP) responds, and no broker")
            raise answer.error
        step.detail = (
            "speaks Kafka"
            if answer.is_asked
            else "accepts connections; without a token it isn't asked"
        )
        return answer

    if not kafka.security_protocol.startswith("SASL_"):
        return broker

    @step("kafka.sasl", address, _BROKER_HINT, needs=[broker])
    async def sasl(step: Step[ProbeResult]) -> ProbeResult:
        if broker.value.error is not None:
            raise broker.value.error
        step.detail = f"signed in with {kafka.sasl_mechanism}"
        return broker.value

    return sasl


async def _open_tls(
    kafka: KafkaSettings,
    ask: Callable[[], Awaitable[ProbeResult]],
    step: Step[ProbeResult],
) -> ProbeResult:
    answer = await ask()
    if answer.error is not None and answer.is_tls:
        raise answer.error
    try:
        await shake_hands(partial(tls_context, kafka), step)
    except ConnectError as error:
        # Its own hint would be about dryAPI's settings.
        known = answer.error if answer.is_asked else None
        raise known or KafkaError(error.message) from error
    return answer


async def _speaks_http(address: str) -> bool:
    client = ApiClient(f"http://{address}", None, timeout_seconds=_WEB_SECONDS)
    try:
        await client.request("", max_bytes=0)
    except ApiError:
        return False
    return True


async def _reach(kafka: KafkaSettings, places: Iterable[tuple[str, int]]) -> None:
    """Probe addresses that the brokers send their clients to."""
    problems: dict[str, str] = {}

    async def try_one(host: str, port: int) -> None:
        answer = await run_in_thread(partial(probe, kafka, host, port, _PROBE_SECONDS))
        if answer.error is not None:
            problems[f"{host}:{port}"] = answer.error.message

    async with trio.open_nursery() as nursery:
        for host, port in places:
            nursery.start_soon(try_one, host, port)
    if problems:
        found = "; ".join(
            f"{where}: {what}" for where, what in sorted(problems.items())
        )
        raise KafkaError(f"the brokers send their clients to {found}")


# -- Topics and permissions ----------------------------------------------------


def _add_topic(
    steps: Steps, name: str, kafka: KafkaSettings, lookup: Step[_Found]
) -> None:
    """Add whether a topic exists, what this user may do, and how much it takes."""
    step = partial(steps.step, exit_code=_REFUSED)

    @step("kafka.topics", name, _LOGS_HINT, needs=[lookup])
    async def topic(step: Step[TopicFacts | None]) -> TopicFacts | None:
        facts = lookup.value.looked_up.facts.get(name)
        if facts is None:
            _check_absent(lookup.value, kafka, step)
            return None
        others = _PERMISSIONS | _SIZES
        _judge((x for x in lookup.value.findings[name] if x.what not in others), step)
        step.detail = f"partitions: {facts.partitions}, replicas: {facts.replicas}"
        if not facts.is_led:
            step.warn(
                "a partition has no leader: its records wait",
                "See that the brokers of its replicas are up",
            )
        return facts

    for check, own in (("kafka.acls", _PERMISSIONS), ("kafka.sizes", _SIZES)):

        @step(check, name, _LOGS_HINT, needs=[topic])
        async def _(step: Step[None], own: frozenset[str] = own) -> None:
            if topic.value is None:
                raise SkipError("the topic")
            _judge((x for x in lookup.value.findings[name] if x.what in own), step)


def _check_absent(found: _Found, kafka: KafkaSettings, step: Step[Any]) -> None:
    """Raise why a topic can't be used, or not be created."""
    name = step.subject
    problem = found.looked_up.problems.get(name) or found.permissions.creations.get(
        name
    )
    if problem is not None:
        raise problem
    if not kafka.create_topics:
        _judge(found.findings[name], step)
    step.detail = "doesn't exist; the bridge can create it"


def _judge(findings: Iterable[TopicFinding], step: Step[Any]) -> None:
    """Report findings: the last that is as it should be, and all that are not."""
    step.detail = "not reported to this user"
    for one in findings:
        detail = f"{one.what}: {one.found}, needed: {one.needed}"
        if one.verdict is Verdict.ERROR:
            raise KafkaRefusedError(detail, hint=one.remedy)
        if one.verdict is Verdict.OK:
            step.detail = detail
        else:
            step.warn(detail, one.remedy)


# -- The Schema Registry -------------------------------------------------------


def add_registry(steps: Steps, settings: Settings) -> None:
    """Add whether the registry has the schemas of the topics, if there is one."""
    given = settings.schema_registry
    if given.url is None:
        return
    # Looked up only.
    looking = replace(settings, schema_registry=replace(given, register=False))
    for topic in (settings.topic, settings.gap_topic):

        @steps.step("schema_registry", topic, _REGISTRY_HINT, exit_code=_REFUSED)
        async def _(step: Step[None]) -> None:
            registry = SchemaRegistry(looking, _REGISTRY_SECONDS)
            try:
                prefix = await registry.prefix(step.subject)
            except RegistryUnknownSchemaError:
                if not given.register:
                    raise
                step.detail = "missing; the bridge registers it when it starts"
            else:
                step.detail = f"schema {int.from_bytes(prefix[1:])}"
