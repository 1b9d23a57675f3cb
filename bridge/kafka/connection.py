"""
How a client of aiokafka reaches the brokers, is started and ended.

Owns the way from `KafkaSettings` to aiokafka's arguments, and what is said of topics
that can't be read. Why a client can't start is `probe`'s business.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room speaks to aiokafka

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.msk import check_installed, sign_token
from bridge.kafka.oidc import fetch_token
from bridge.kafka.security import FollowingContext
from bridge.kafka.tokens import TokenProvider, TokenSource, shared_source
from bridge.settings import KafkaSettings, split_extensions


__all__ = [
    "client_arguments",
    "end_client",
    "read_error",
    "start_client",
    "token_source",
    "topic_missing",
    "unreachable",
]

# A cancelled task or a closed connection ends within milliseconds.
_END_SECONDS: Final = 1.0


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """
    Give the arguments that every aiokafka client of the bridge shares.

    Certificates and tokens follow their files for as long as the client lives. The
    password is read when this is called, and is the client's for life. Tokens need the
    loop that the client will run in.

    Args:
        settings: Where the brokers are and how to speak to them.

    Returns:
        Keyword arguments of `AIOKafkaProducer`, `AIOKafkaConsumer` and
        `AIOKafkaAdminClient`.

    Raises:
        ConfigError: A certificate or key can't be used, or an extra is missing.
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
        text = settings.sasl_oauth_extensions
        pairs = [] if text is None else split_extensions(text)
        return {
            # To a broker IAM is a token too, and how it looks.
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_provider": TokenProvider(
                token_source(settings),
                {name: value for name, _, value in (p.partition("=") for p in pairs)},
            ),
        }
    password = settings.sasl_password
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": None if password is None else password.reveal(),
    }


def token_source(settings: KafkaSettings) -> TokenSource:
    """
    Give what the running loop's clients with these settings get their tokens from.

    Raises:
        ConfigError: An extra is missing.
    """
    if settings.sasl_mechanism == "AWS_MSK_IAM":
        region = settings.sasl_aws_region
        assert region is not None
        check_installed()
        return shared_source(settings, lambda: TokenSource(partial(sign_token, region)))
    return shared_source(settings, lambda: TokenSource(partial(fetch_token, settings)))


def unreachable(settings: KafkaSettings, reason: str) -> KafkaUnreachableError:
    """Make the error that says which brokers don't answer and where they are set."""
    return KafkaUnreachableError(
        f"No Kafka broker answers at {settings.bootstrap_servers} ({reason}). Set "
        "kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS, "
        "--bootstrap-servers) to where the brokers listen."
    )


def topic_missing(
    settings: KafkaSettings, missing: Sequence[str], present: Iterable[str]
) -> KafkaRefusedError:
    """Make the error for topics that are not there, with some that are."""
    # Ten names fit a line or two of a terminal.
    there = ", ".join(sorted(present)[:10]) or "none"
    return KafkaRefusedError(
        f"Kafka at {settings.bootstrap_servers} has no topic {', '.join(missing)}, or "
        f"this user may not see it (topics it sees: {there}). Create it, grant the "
        "user Read on it, or name another with --topic (BRIDGE_TOPIC)."
    )


def read_error(
    settings: KafkaSettings, topics: Sequence[str], error: Exception
) -> KafkaError:
    """Turn what aiokafka raised while reading into an error that says what to do."""
    names = ", ".join(topics)
    if isinstance(error, aiokafka_errors.TopicAuthorizationFailedError):
        return KafkaRefusedError(
            f"Kafka forbids this user to read {names} ({error}). Grant the user Read "
            f"on the topic {names}."
        )
    if isinstance(error, aiokafka_errors.KafkaTimeoutError):
        return KafkaUnreachableError(
            f"Kafka at {settings.bootstrap_servers} gave no offsets of {names}: a "
            "partition may be without leader."
        )
    if isinstance(error, TimeoutError):
        return unreachable(
            settings,
            f"nothing within {settings.start_timeout_seconds:g} s, "
            "kafka.start_timeout_seconds",
        )
    if isinstance(error, UnicodeError):
        return KafkaError(f"A record of {names} has a header whose name is no UTF-8.")
    return KafkaError(f"Reading {names} from Kafka failed: {error!r}")


async def start_client(start: Callable[[], Awaitable[None]]) -> None:
    """
    Start a client; a start that is cancelled gets a moment to come to its end.

    aiokafka 0.14 forgets the connection over which it was looking for brokers.

    Args:
        start: What starts it.
    """
    starting = asyncio.ensure_future(start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_END_SECONDS)
        if starting.done() and not starting.cancelled():
            starting.exception()
        starting.cancel()
        raise


async def end_client(stop: Callable[[], Awaitable[None]]) -> None:
    """
    End a client, also one that never started, or whose broker doesn't answer.

    Args:
        stop: What ends it. What it raises is aiokafka's, and of no use any more;
            connections that it leaves open end with the loop.
    """
    # A task of its own: aiokafka takes the cancellation of a fetch of its own
    # for the caller's, which would end the caller.
    stopping = asyncio.ensure_future(stop())
    await asyncio.wait([stopping], timeout=_END_SECONDS)
    if not stopping.done():
        stopping.cancel()
    elif not stopping.cancelled():
        stopping.exception()
