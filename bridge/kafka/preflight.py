"""
What the brokers say to somebody who would do what the bridge does, and does nothing.

Owns the questions of `bridge check`: each is asked over connections of its own, in a
thread that ends with its answer, and none changes anything. What topics must be like
stands in `topics.report`, why a broker lets nobody in in `verdict`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import trio
from aiokafka import errors  # noqa: TID251 - this room speaks to aiokafka
from aiokafka.admin import (  # noqa: TID251 - as above
    AIOKafkaAdminClient,
    NewTopic,
)
from aiokafka.conn import collect_hosts, create_conn  # noqa: TID251 - as above
from aiokafka.protocol.metadata import MetadataRequest  # noqa: TID251 - as above
from aiokafka.protocol.transaction import (  # noqa: TID251 - as above
    InitProducerIdRequest,
)

from bridge.errors import (
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.answers import no_producer
from bridge.kafka.client.connection import client_arguments, token_source, unreachable
from bridge.kafka.client.ending import ClosingLoop, end_client, start_client
from bridge.kafka.client.verdict import Place, in_words, refusal
from bridge.kafka.topics.creation import Creation
from bridge.kafka.topics.facts import LookedUp, look_up
from bridge.kafka.topics.ids import ask_topics
from bridge.kafka.topics.rights import NEEDED, WISHED, lacking
from bridge.settings import KafkaSettings


__all__ = [
    "Knock",
    "Right",
    "Rights",
    "ask_rights",
    "find_topics",
    "knock",
    "places_of",
]

_T = TypeVar("_T")

# https://kafka.apache.org/protocol#protocol_error_codes
_NONE: Final = 0
_EXISTS: Final = 36
_FORBIDDEN: Final = frozenset({29, 31})
_BAD_TIMEOUT: Final = 50

# No broker takes a transaction that may last no time: it says so after it has looked
# at the right to the id, and before it makes or fences anything (KafkaApis and
# TransactionCoordinator.handleInitProducerId).
_NO_TIMEOUT_MS: Final = 0

# A broker gets its first producer ids from the controller within a tenth of a second.
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.2

_SIGN_IN_ERRORS: Final = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
)


class Knock(msgspec.Struct, frozen=True):
    """
    What came of a connection to one address.

    Attributes:
        error: Why it came to nothing; None where it is as it should be.
        is_sign_in: Whether it is a broker, who wants somebody else to come.
        is_asked: Whether the broker was asked; without a token there is no use in it.
        is_tls: Whether one of both doesn't like the other's certificate, or its TLS.
        brokers: Where the brokers are, by the word of this one.
    """

    error: KafkaError | None = None
    is_sign_in: bool = False
    is_asked: bool = True
    is_tls: bool = False
    brokers: frozenset[tuple[str, int]] = frozenset()


class Right(msgspec.Struct, frozen=True):
    """
    What the user may do with a topic.

    Attributes:
        needed: What it lacks of what the bridge can't do without, by Kafka's names.
        wished: The same of what the bridge can do without.
    """

    needed: tuple[str, ...]
    wished: tuple[str, ...]


class Rights(msgspec.Struct, frozen=True):
    """
    What the user may do.

    Attributes:
        topics: With topics that are there, by name; empty where brokers don't tell.
        producer: Why it can't write idempotently, if so.
        transactions: Why it can't write transactionally, if so.
        creations: Why topics can't be created, by name.
    """

    topics: Mapping[str, Right]
    producer: KafkaError | None
    transactions: KafkaError | None
    creations: Mapping[str, KafkaError]


def places_of(settings: KafkaSettings) -> list[tuple[str, int]]:
    """Give the addresses to begin with, each once."""
    hosts = collect_hosts(settings.bootstrap_servers, randomize=False)
    return list(dict.fromkeys((host, port) for host, port, _ in hosts))


async def knock(settings: KafkaSettings, host: str, port: int, seconds: float) -> Knock:
    """
    Connect to an address as every client does, and ask for the brokers.

    Args:
        settings: How to speak and sign in.
        host: Where to.
        port: Where to.
        seconds: How long each of the two questions may take: the one, and after a
            failure the one for its reason.

    Raises:
        ConfigError: A certificate or key can't be used.
    """
    return await _in_loop(partial(_knock, settings, host, port, seconds))


async def find_topics(
    settings: KafkaSettings, names: Sequence[str], seconds: float
) -> LookedUp:
    """
    Look topics up, and create none.

    Raises:
        KafkaUnreachableError: No broker answers.
        KafkaRefusedError: They refuse this user.
        ConfigError: A certificate or key can't be used.
    """
    return await _in_loop(partial(_within, settings, seconds, look_up, names))


async def ask_rights(
    settings: KafkaSettings,
    names: Sequence[str],
    *,
    id_prefix: str | None,
    creations: Sequence[Creation],
    seconds: float,
) -> Rights:
    """
    Ask what the user may do.

    Args:
        settings: How to reach Kafka.
        names: Topics that are there.
        id_prefix: How the transactional ids begin; None for idempotent delivery.
        creations: Topics that the bridge would create.
        seconds: How long all of it may take.

    Raises:
        KafkaUnreachableError: No broker answers.
        ConfigError: A certificate or key can't be used.
    """
    return await _in_loop(
        partial(_within, settings, seconds, _rights, names, id_prefix, creations)
    )


async def _in_loop(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do asyncio's work in a thread; who leaves it finds nothing kept."""
    return await trio.to_thread.run_sync(_run, work, abandon_on_cancel=True)


def _run(work: Callable[[], Awaitable[_T]]) -> _T:
    async def whole(loop: ClosingLoop) -> _T:
        try:
            return await work()
        finally:
            await loop.abort_connections()

    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosingLoop)
        return runner.run(whole(loop))


async def _within(
    settings: KafkaSettings,
    seconds: float,
    work: Callable[..., Awaitable[_T]],
    *arguments: Any,
) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await work(settings, *arguments)
    except (TimeoutError, errors.KafkaError) as error:
        reason = (
            f"nothing within {seconds:g} s"
            if isinstance(error, TimeoutError)
            else str(error)
        )
        raise unreachable(settings, reason) from error


# -- One address ------------------------------------------------------------------


async def _knock(
    settings: KafkaSettings, host: str, port: int, seconds: float
) -> Knock:
    if settings.sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"}:
        try:
            async with asyncio.timeout(seconds):
                await token_source(settings).token()
        except KafkaError as error:
            return Knock(error, is_sign_in=True, is_asked=False)
        except TimeoutError:
            late = KafkaUnreachableError(f"no token within {seconds:g} s")
            return Knock(late, is_sign_in=True, is_asked=False)
    arguments = client_arguments(settings)
    del arguments["bootstrap_servers"]
    place = Place(settings, arguments, host, port)
    try:
        async with asyncio.timeout(seconds):
            return Knock(brokers=await _ask(place))
    # ValueError: a broker that doesn't prove, over SCRAM, that it knows the password.
    except (OSError, errors.KafkaError, ValueError) as error:
        return await _failed(place, error, seconds)


async def _ask(place: Place) -> frozenset[tuple[str, int]]:
    connection = await create_conn(place.host, place.port, **place.arguments)
    try:
        # A listener that wants SASL lets anybody connect, and ends it only here.
        answer = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    return frozenset((broker[1], broker[2]) for broker in answer.brokers)


async def _failed(place: Place, error: Exception, seconds: float) -> Knock:
    refused = None
    try:
        async with asyncio.timeout(seconds):
            refused = await refusal(place, error)
    except TimeoutError:
        pass
    is_sign_in = isinstance(error, _SIGN_IN_ERRORS) or (
        isinstance(error, ValueError) and not isinstance(error, OSError)
    )
    return Knock(
        refused or KafkaUnreachableError(in_words(error, seconds)),
        is_sign_in=is_sign_in,
        is_tls=_is_of_tls(error),
    )


def _is_of_tls(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__
    return cause is not None


# -- Rights -----------------------------------------------------------------------


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    try:
        await start_client(admin.start)
        yield admin
    finally:
        await end_client(admin._client, admin.close)  # noqa: SLF001 - has no name


async def _rights(
    settings: KafkaSettings,
    names: Sequence[str],
    id_prefix: str | None,
    creations: Sequence[Creation],
) -> Rights:
    async with _admin(settings) as admin:
        client = admin._client  # noqa: SLF001 - has no public name
        return Rights(
            await _topic_rights(client, names),
            await _producer(client),
            None if id_prefix is None else await _transactions(client, id_prefix),
            await _creatable(admin, creations),
        )


async def _topic_rights(client: Any, names: Sequence[str]) -> dict[str, Right]:
    rights = {}
    for name, shown in (await ask_topics(client, names)).items():
        needed, wished = (
            lacking(shown.operations, NEEDED),
            lacking(shown.operations, WISHED),
        )
        if needed is not None and wished is not None:
            rights[name] = Right(needed, wished)
    return rights


async def _producer(client: Any) -> KafkaError | None:
    code = await _ask_for_id(client, None)
    return None if code == _NONE else no_producer(errors.for_code(code)(), None)


async def _transactions(client: Any, id_prefix: str) -> KafkaError | None:
    # An id of nobody's: a broker that isn't Apache's might take it in earnest.
    code = await _ask_for_id(client, f"{id_prefix}check")
    if code in {_NONE, _BAD_TIMEOUT}:
        return None
    return no_producer(errors.for_code(code)(), id_prefix)


async def _ask_for_id(client: Any, transactional_id: str | None) -> int:
    """Ask for a producer's id; a broker that has just started says to wait."""
    request = InitProducerIdRequest(transactional_id, _NO_TIMEOUT_MS)
    for _ in range(_TRIES):
        answer = await client.send(client.get_random_node(), request)
        if not errors.for_code(answer.error_code).retriable:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    code: int = answer.error_code
    return code


async def _creatable(
    admin: AIOKafkaAdminClient, creations: Sequence[Creation]
) -> dict[str, KafkaError]:
    """Have topics created that are not: the brokers only look whether they could."""
    if not creations:
        return {}
    answer = await admin.create_topics(
        [
            NewTopic(
                name=one.topic,
                num_partitions=one.partitions,
                replication_factor=one.replication_factor,
                topic_configs=dict(one.configs),
            )
            for one in creations
        ],
        validate_only=True,
    )
    problems: dict[str, KafkaError] = {}
    for name, code, message in answer.topic_errors:
        if code in {_NONE, _EXISTS}:
            continue
        if code in _FORBIDDEN:
            problems[name] = KafkaRefusedError(
                f"Kafka would not let this user create {name}. Grant Create on the"
                " topic (or on the cluster), or create it yourself."
            )
            continue
        reason = message or errors.for_code(code).__name__
        problems[name] = KafkaRefusedError(
            f"Kafka would not create {name}: {reason.rstrip('.')}. Look at"
            " kafka.partitions (BRIDGE_KAFKA_PARTITIONS) and"
            " kafka.replication_factor (BRIDGE_KAFKA_REPLICATION_FACTOR), or create it"
            " yourself."
        )
    return problems
