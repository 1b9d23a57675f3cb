"""
How a client of this room reaches the brokers.

Owns the way from `KafkaSettings` to aiokafka's arguments, and from a failed
start to an error that names the setting. What a client does once it is
connected doesn't belong here.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import contextlib
import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import aiokafka.errors as aiokafka_errors  # noqa: TID251 - this room speaks to aiokafka
from aiokafka.conn import collect_hosts, create_conn  # noqa: TID251 - as above

from bridge.errors import (
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.settings import KafkaSettings


__all__ = [
    "client_arguments",
    "failed_start",
    "read_error",
    "ssl_context",
    "topic_missing",
    "unreachable",
]

# How long one address may take to say why it doesn't let a client in.
_KNOCK_SECONDS = 5.0


# A refusal of these kinds stays one, however often it is tried.
_REFUSALS = (
    aiokafka_errors.AuthenticationFailedError,
    aiokafka_errors.AuthenticationMethodNotSupported,
    aiokafka_errors.IllegalSaslStateError,
    aiokafka_errors.SaslAuthenticationFailed,
    aiokafka_errors.UnsupportedSaslMechanismError,
)


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """
    Give the arguments that every aiokafka client of the bridge shares.

    The password is read when this is called, so that a client made later takes
    a rotated secret.

    Args:
        settings: Where the brokers are and how to speak to them.

    Returns:
        Keyword arguments of `AIOKafkaProducer`, `AIOKafkaConsumer` and
        `AIOKafkaAdminClient`.

    Raises:
        ConfigError: A certificate or key can't be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = ssl_context(settings)
    if settings.security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
        password = settings.sasl_password
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = (
            None if password is None else password.reveal()
        )
    return arguments


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """
    Make the TLS context: the machine's authorities or `ssl_ca_file`.

    Raises:
        ConfigError: A file is missing, unreadable or no PEM of its kind.
    """
    with _tls_file("kafka.ssl_ca_file", settings.ssl_ca_file):
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    if settings.ssl_cert_file is not None:
        with _tls_file("kafka.ssl_cert_file", settings.ssl_cert_file):
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    return context


@contextlib.contextmanager
def _tls_file(setting: str, path: str | None) -> Iterator[None]:
    """Translate what the ssl module says of a file."""
    variable = "BRIDGE_" + setting.upper().replace(".", "_")
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"{setting} ({variable}): {path} can't be used: "
            f"{error.strerror or error}. Expected is a readable PEM file"
            + (
                ", with kafka.ssl_key_file the key that fits it."
                if "cert" in setting
                else "."
            )
        ) from error


def unreachable(settings: KafkaSettings, reason: str) -> KafkaUnreachableError:
    """Make the error that says which brokers don't answer and where they are set."""
    return KafkaUnreachableError(
        f"No Kafka broker answers at {settings.bootstrap_servers} ({reason}). Set "
        "kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS, "
        "--bootstrap-servers) to where the brokers listen."
    )


async def failed_start(
    settings: KafkaSettings, timeout_seconds: float = _KNOCK_SECONDS
) -> KafkaError:
    """
    Find out why a client couldn't start.

    aiokafka tells the cause of a failed bootstrap to its log alone, so this
    knocks once more at each address.

    Args:
        settings: What the client was started with.
        timeout_seconds: For each address.

    Returns:
        `KafkaRefusedError` where a broker refuses the credentials, else
        `KafkaUnreachableError`, with each address's reason.
    """
    arguments = client_arguments(settings)
    reasons = []
    for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await create_conn(host, port, **arguments)
        except _REFUSALS as error:
            return KafkaRefusedError(
                f"The Kafka broker {host}:{port} refuses to authenticate "
                f"{settings.sasl_username!r}: {error}. Look at kafka.sasl_mechanism, "
                "kafka.sasl_username and kafka.sasl_password "
                "(BRIDGE_KAFKA_SASL_MECHANISM, BRIDGE_KAFKA_SASL_USERNAME, "
                "BRIDGE_KAFKA_SASL_PASSWORD)."
            )
        except (OSError, aiokafka_errors.KafkaError) as error:
            reasons.append(f"{host}:{port}: {_in_words(error, timeout_seconds)}")
        else:
            connection.close()
            reasons.append(f"{host}:{port} answers now, but did not at the start")
    return unreachable(settings, "; ".join(reasons))


def _in_words(error: Exception, timeout_seconds: float) -> str:
    """Say why a connection failed."""
    if isinstance(error, TimeoutError):  # an OSError as well
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        # asyncio's own text has the address once more.
        return os.strerror(error.errno)
    return str(error)


def topic_missing(
    settings: KafkaSettings, missing: Sequence[str], present: Iterable[str]
) -> KafkaRefusedError:
    """Make the error for topics that are not there, with some that are."""
    # Ten names fit a line or two of a terminal.
    there = ", ".join(sorted(present)[:10]) or "none"
    return KafkaRefusedError(
        f"Kafka at {settings.bootstrap_servers} has no topic {', '.join(missing)}, or "
        f"this user may not see it (topics it sees: {there}). Create it, or name "
        "another with --topic (BRIDGE_TOPIC)."
    )


def read_error(
    settings: KafkaSettings, topics: Sequence[str], error: Exception
) -> KafkaError:
    """Turn what aiokafka raised while reading into an error that says what to do."""
    names = ", ".join(topics)
    if isinstance(error, aiokafka_errors.TopicAuthorizationFailedError):
        return KafkaRefusedError(
            f"Kafka refuses to let this user read {names}: it needs the READ and "
            "DESCRIBE permissions (ACLs) on the topic."
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
    return KafkaError(f"Reading {names} from Kafka failed: {error!r}")
