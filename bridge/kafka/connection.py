"""
Clients of aiokafka: how they connect, start and stop.

Owns aiokafka's arguments, made from `KafkaSettings`, and the errors for topics that
can't be read. Why a client can't start is found by `probe`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Final

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, TopicPartition, errors

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.security import FollowingContext
from bridge.kafka.tokens import token_source
from bridge.settings import KafkaSettings


__all__ = [
    "client_arguments",
    "connected",
    "consuming",
    "ended",
    "partitions_of",
    "read_error",
    "silence",
    "started",
    "topic_missing",
    "unreachable",
]

# What a broker may send at once, and of one partition; a larger batch comes by itself.
FETCH_BYTES = 8 * 1024 * 1024
PARTITION_BYTES = 2 * 1024 * 1024
# Longer than a full fetch takes over 5 Mbit/s; a hung broker is left after it.
_REQUEST_TIMEOUT_SECONDS: Final = 20.0

# With aiokafka's 0.1 s an outage wrote 40 log lines a second.
RETRY_BACKOFF_SECONDS: Final = 0.5
# A cancelled fetch needs a few rounds of the loop to end.
_UNSUBSCRIBE_SECONDS: Final = 0.01
# A cancelled task or a closed connection ends within milliseconds.
_END_SECONDS: Final = 1.0


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """
    Give the arguments that every aiokafka client of the bridge shares.

    Certificates and tokens follow their files; the password is the client's for life.
    Tokens need the loop that the client will run in.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = FollowingContext(settings)
    if settings.security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
        arguments |= _sasl_arguments(settings)
    return arguments


def _sasl_arguments(settings: KafkaSettings) -> dict[str, Any]:
    if settings.sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"}:
        return {
            # To a broker IAM is a token too, and how it looks.
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_provider": token_source(settings),
        }
    password = settings.sasl_password
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": None if password is None else password.reveal(),
    }


def unreachable(settings: KafkaSettings, reason: str) -> KafkaUnreachableError:
    """Make the error that says which brokers don't answer and where they are set."""
    return KafkaUnreachableError(
        f"No Kafka broker answers at {settings.bootstrap_servers} ({reason})",
        hint="Set kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS,"
        " --bootstrap-servers) to where the brokers listen",
    )


def topic_missing(
    settings: KafkaSettings, missing: Sequence[str], present: Iterable[str]
) -> KafkaRefusedError:
    """Make the error for topics that are not there, with some that are."""
    # Ten names fit a line or two of a terminal.
    there = ", ".join(sorted(present)[:10]) or "none"
    return KafkaRefusedError(
        f"Kafka at {settings.bootstrap_servers} has no topic {', '.join(missing)}, or"
        f" this user may not see it (topics it sees: {there})",
        hint="Create it, grant the user Read on it, or name another with --topic"
        " (BRIDGE_TOPIC)",
    )


def read_error(
    settings: KafkaSettings, topics: Sequence[str], error: Exception
) -> KafkaError:
    """Turn what aiokafka raised while reading into an error that says what to do."""
    names = ", ".join(topics)
    if isinstance(error, errors.TopicAuthorizationFailedError):
        return KafkaRefusedError(
            f"Not authorized to read {names} ({error})",
            hint=f"Grant the user Read on the topic {names}",
        )
    if isinstance(error, TimeoutError):
        return unreachable(
            settings,
            f"nothing within {settings.start_timeout_seconds:g} s",
        )
    if isinstance(error, errors.CorruptRecordException):
        return KafkaError(
            f"A record batch of {names} has a wrong checksum ({error!r})",
            hint="The broker's disk or the network has damaged it",
        )
    if isinstance(error, UnicodeError):
        return KafkaError(f"A record of {names} has a header whose name isn't UTF-8")
    return KafkaError(f"Reading {names} from Kafka failed: {error!r}")


def silence(settings: KafkaSettings, topic: str, seconds: float) -> KafkaError:
    """Make the error for brokers that give nothing where something must be."""
    return KafkaUnreachableError(
        f"Kafka at {settings.bootstrap_servers} has sent nothing of {topic} for"
        f" {seconds:.0f} s, though there is more",
        hint="Look at the brokers",
    )


async def partitions_of(
    settings: KafkaSettings, client: AIOKafkaClient, topics: Collection[str]
) -> list[TopicPartition]:
    """Look up the partitions of topics; one that is missing is an error."""
    # All are asked for: a broker may make one that is asked for by name.
    cluster = await client.fetch_all_metadata()
    missing = [topic for topic in topics if not cluster.partitions_for_topic(topic)]
    if missing:
        raise topic_missing(settings, missing, cluster.topics())
    await client.set_topics(topics)
    return [
        TopicPartition(topic, number)
        for topic in topics
        for number in sorted(cluster.partitions_for_topic(topic))
    ]


# -- Clients ------------------------------------------------------------------


async def started(
    work: Coroutine[Any, Any, None], context: Context | None = None
) -> None:
    """Start a client; a start that is cancelled gets a moment to come to its end."""
    # aiokafka 0.14 forgets the connection over which it was looking for brokers.
    starting = asyncio.get_running_loop().create_task(work, context=context)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _end_task(starting)
        raise


async def ended(
    work: Coroutine[Any, Any, None], context: Context | None = None
) -> None:
    """End a client, also one that never started, or whose broker doesn't answer."""
    # What it raises is aiokafka's, and of no use any more; connections that it leaves
    # open end with the loop.
    # A task of its own: aiokafka takes the cancellation of a fetch of its own
    # for the caller's, which would end the caller.
    await _end_task(asyncio.get_running_loop().create_task(work, context=context))


async def _end_task(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task], timeout=_END_SECONDS)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_END_SECONDS)
    if task.done() and not task.cancelled():
        task.exception()


def _timing() -> dict[str, int]:
    return {
        "request_timeout_ms": int(_REQUEST_TIMEOUT_SECONDS * 1000),
        "retry_backoff_ms": int(RETRY_BACKOFF_SECONDS * 1000),
    }


@asynccontextmanager
async def connected(
    settings: KafkaSettings, **options: Any
) -> AsyncIterator[AIOKafkaClient]:
    """Connect what asks brokers."""
    client = AIOKafkaClient(**{**client_arguments(settings), **_timing(), **options})
    try:
        async with asyncio.timeout(settings.start_timeout_seconds):
            await started(client.bootstrap())
        yield client
    finally:
        await ended(client.close())


@asynccontextmanager
async def consuming(
    settings: KafkaSettings, isolation_level: str, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """Start a consumer without group or partitions."""
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        **_timing(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation_level,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=PARTITION_BYTES,
        **options,
    )
    try:
        async with asyncio.timeout(settings.start_timeout_seconds):
            await started(consumer.start())
        yield consumer
    finally:
        await ended(_stop(consumer))


async def _stop(consumer: AIOKafkaConsumer) -> None:
    consumer.unsubscribe()
    await asyncio.sleep(_UNSUBSCRIBE_SECONDS)
    await consumer.stop()
