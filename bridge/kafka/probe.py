"""
Why Kafka can't be reached or used: an error that names the setting and what to do.

aiokafka only logs the cause, or retries silently. So each bootstrap address is probed
with the settings, and each address that a broker advertises. A broker that refuses a
client reports a SASL or TLS error. A broker that expects another protocol only closes
the connection. Then it is probed with the other protocol, without any secret.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaClient, errors
from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.http.tls import certificate_fault
from bridge.kafka.answers import causes
from bridge.kafka.connection import client_arguments, connected, unreachable
from bridge.kafka.tokens import TokenSource, token_source
from bridge.settings import KafkaSettings


__all__ = ["ProbeResult", "asking", "diagnose", "failed_start", "places_of", "probe"]

_Address = tuple[str, int]

# The deadline for one address to report why it refuses a client.
_PROBE_SECONDS: Final = 5.0

_SASL = "kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM)"
_PROTOCOL = "kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL)"
_SERVERS = "kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS)"
_AUTHORITIES = "kafka.ssl_ca_file (BRIDGE_KAFKA_SSL_CA_FILE)"


# The most characters of a broker's message that an error message repeats.
_MOST_CHARACTERS = 300

_REFUSED_SASL = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.SaslAuthenticationFailed,
)
_SIGN_IN_ERRORS = (
    *_REFUSED_SASL,
    errors.IllegalSaslStateError,
    errors.UnsupportedSaslMechanismError,
)


class ProbeResult(msgspec.Struct, frozen=True):
    """
    The result of a connection to one address, and the brokers that it advertises.

    The error is a `KafkaRefusedError` if it stays until a setting changes.
    """

    error: KafkaError | None = None
    is_sign_in: bool = False
    is_asked: bool = True
    is_tls: bool = False
    brokers: frozenset[_Address] = frozenset()


class _Place(msgspec.Struct, frozen=True):
    """An address, and how to connect to it: `client_arguments` without addresses."""

    settings: KafkaSettings
    arguments: dict[str, Any]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def refuses(self, what: str, hint: str) -> KafkaRefusedError:
        """Make the error: what the broker does, and what to do about it."""
        return KafkaRefusedError(f"The Kafka broker {self} {what}", hint=hint)


@asynccontextmanager
async def asking(settings: KafkaSettings) -> AsyncIterator[AIOKafkaClient]:
    """Start a client for single requests; raises why it can't connect."""
    timeout_ms = int(settings.start_timeout_seconds * 1000)
    try:
        async with connected(settings, request_timeout_ms=timeout_ms) as client:
            yield client
    # Not ready: the advertised brokers refuse it.
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


async def failed_start(
    settings: KafkaSettings, timeout_seconds: float = _PROBE_SECONDS
) -> KafkaError:
    """Find out why a client couldn't start: as `diagnose`, or that Kafka works now."""
    error = await diagnose(settings, timeout_seconds)
    if error is not None:
        return error
    return unreachable(settings, "it answers now, but did not at the start")


async def diagnose(
    settings: KafkaSettings, timeout_seconds: float = _PROBE_SECONDS
) -> KafkaError | None:
    """
    Find out why clients can't use the brokers; None if they can.

    The result is a `KafkaRefusedError` if a retry can't succeed, else a
    `KafkaUnreachableError` with the reason of each address. Probes run in parallel.
    """
    if _has_tokens(settings):
        try:
            await token_source(settings).get()
        except KafkaError as error:
            return error
    first = places_of(settings)
    results = await _probe_all(settings, first, timeout_seconds)
    others = {place for one in results.values() for place in one.brokers}
    results |= await _probe_all(settings, others.difference(first), timeout_seconds)
    reasons = []
    for (host, port), one in results.items():
        if isinstance(one.error, KafkaRefusedError):
            return one.error
        if one.error is not None:
            reasons.append(f"{host}:{port}: {one.error}")
    return unreachable(settings, "; ".join(reasons)) if reasons else None


def places_of(settings: KafkaSettings) -> list[_Address]:
    """Give the bootstrap addresses, each once."""
    hosts = collect_hosts(settings.bootstrap_servers, randomize=False)
    return list(dict.fromkeys((host, port) for host, port, _ in hosts))


async def _probe_all(
    settings: KafkaSettings, places: Iterable[_Address], seconds: float
) -> dict[_Address, ProbeResult]:
    """Probe several addresses in parallel; in a stable order."""
    found = sorted(places)
    results = await asyncio.gather(
        *(probe(settings, host, port, seconds) for host, port in found)
    )
    return dict(zip(found, results, strict=True))


async def probe(
    settings: KafkaSettings, host: str, port: int, seconds: float
) -> ProbeResult:
    """Connect to an address as every client does, and ask for the brokers."""
    if _has_tokens(settings):
        try:
            async with asyncio.timeout(seconds):
                await token_source(settings).get()
        except (KafkaError, TimeoutError) as error:
            late = KafkaUnreachableError(f"no token within {seconds:g} s")
            reason = error if isinstance(error, KafkaError) else late
            return ProbeResult(reason, is_sign_in=True, is_asked=False)
    arguments = client_arguments(settings)
    del arguments["bootstrap_servers"]
    place = _Place(settings, arguments, host, port)
    try:
        async with asyncio.timeout(seconds):
            return ProbeResult(brokers=await _brokers(place))
    # ValueError: a broker that doesn't prove, over SCRAM, that it knows the password.
    except (OSError, errors.KafkaError, ValueError) as error:
        refused = None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                refused = await _refusal(place, error)
        return ProbeResult(
            refused or KafkaUnreachableError(_in_words(error, seconds)),
            is_sign_in=isinstance(error, _SIGN_IN_ERRORS) or _is_unproved(error),
            is_tls=any(isinstance(one, ssl.SSLError) for one in causes(error)),
        )


async def _brokers(place: _Place) -> frozenset[_Address]:
    """Connect, authenticate and request the brokers, as every client does."""
    provider = place.arguments.get("sasl_oauth_token_provider")
    if provider is None:
        connection = await create_conn(place.host, place.port, **place.arguments)
    else:
        connection = await _without_sasl(place)
    try:
        if provider is not None:
            await _show_token(connection, place.settings, provider)
        # A listener that wants SASL lets every client connect, and ends it only here.
        answer = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    return frozenset((broker[1], broker[2]) for broker in answer.brokers)


async def _show_token(
    connection: AIOKafkaConnection, settings: KafkaSettings, provider: TokenSource
) -> None:
    """
    Authenticate with a token, and read the response, which aiokafka ignores.

    A response that isn't empty is a refusal. Its reason follows a dummy reply (RFC
    7628, section 3.2.3).
    """
    shaken = await connection.send(SaslHandShakeRequest("OAUTHBEARER"))
    if shaken.error_code:
        raise errors.for_code(shaken.error_code)(connection)
    token = await provider.token()
    extensions = [f"{name}={value}" for name, value in provider.extensions().items()]
    message = "\x01".join(["n,,", f"auth=Bearer {token}", *extensions, "", ""])
    answer = await connection.send(SaslAuthenticateRequest(message.encode()))
    if not answer.error_code and answer.sasl_auth_bytes:
        answer = await connection.send(SaslAuthenticateRequest(b"\x01"))
    if answer.error_code:
        token_source(settings).refused()
        raise errors.for_code(answer.error_code)(answer.error_message)


async def _without_sasl(place: _Place) -> AIOKafkaConnection:
    """Connect without authentication."""
    arguments = {
        name: value
        for name, value in place.arguments.items()
        if not name.startswith("sasl_")
    }
    protocol = place.settings.security_protocol.removeprefix("SASL_")
    arguments["security_protocol"] = protocol
    return await create_conn(place.host, place.port, **arguments)


def _has_tokens(settings: KafkaSettings) -> bool:
    return settings.sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"}


# -- What a failure means -------------------------------------------------------


async def _refusal(place: _Place, error: Exception) -> KafkaRefusedError | None:
    """Return the refusal behind a failure, if it stays until a setting changes."""
    fault = _of_sasl(place, error)
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        # aiokafka drops the broker's list on the way.
        others = ", ".join(await _mechanisms(place)) or "none"
        fault = place.refuses(
            f"doesn't support {place.settings.sasl_mechanism} at this address, but"
            f" {others}",
            f"Set {_SASL} to one that it supports, or enable it there",
        )
    for cause in causes(error):
        if fault is None and isinstance(cause, ssl.SSLError):
            fault = _of_tls(place, cause)
    if fault is None and _is_ended(error):
        fault = await _wrong_protocol(place)
    return fault


def _in_words(error: Exception, timeout_seconds: float) -> str:
    """Return the reason of a failed connection that isn't a refusal."""
    if isinstance(error, TimeoutError):  # an OSError as well
        return f"no answer within {timeout_seconds:g} s"
    for cause in causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or cause}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        # asyncio's own text has the address once more.
        return os.strerror(error.errno)
    if _is_ended(error):
        return "it ends the connection without a response"
    return str(error)


def _is_ended(error: Exception) -> bool:
    """Whether the broker closed the connection, or uses another protocol."""
    if isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError):
        return True
    return isinstance(error, errors.KafkaConnectionError)


def _is_unproved(error: Exception) -> bool:
    """Whether a broker doesn't prove, over SCRAM, that it knows the password."""
    # A certificate that doesn't verify is a ValueError as well.
    return isinstance(error, ValueError) and not isinstance(error, OSError)


def _of_sasl(place: _Place, error: Exception) -> KafkaRefusedError | None:
    settings = place.settings
    mechanism = settings.sasl_mechanism
    if isinstance(error, errors.IllegalSaslStateError):
        plain = settings.security_protocol.removeprefix("SASL_")
        return place.refuses(
            "has no SASL at this address", f"Set {_PROTOCOL} to {plain}"
        )
    if _is_unproved(error):
        return place.refuses(
            f"doesn't prove that it knows the password of {settings.sasl_username!r}:"
            " it may not be yours",
            f"Check {_SERVERS}",
        )
    if not isinstance(error, _REFUSED_SASL):
        return None
    said = _broker_message(error)
    if mechanism == "OAUTHBEARER":
        return place.refuses(
            f"refuses the token of {settings.sasl_oauth_client_id!r}: {said}",
            "The broker's issuer, audience, scope and extensions must be those of"
            " kafka.sasl_oauth_token_url, kafka.sasl_oauth_scope,"
            " kafka.sasl_oauth_audience and kafka.sasl_oauth_extensions"
            " (BRIDGE_KAFKA_SASL_OAUTH_...)",
        )
    if mechanism == "AWS_MSK_IAM":
        return place.refuses(
            f"refuses the IAM credentials: {said}",
            "Their policy must allow kafka-cluster:Connect, and kafka.sasl_aws_region"
            " (BRIDGE_KAFKA_SASL_AWS_REGION) be the cluster's",
        )
    return place.refuses(
        f"refuses user {settings.sasl_username!r} with {mechanism}: {said}",
        "Check kafka.sasl_username and kafka.sasl_password"
        " (BRIDGE_KAFKA_SASL_USERNAME, BRIDGE_KAFKA_SASL_PASSWORD or"
        " BRIDGE_KAFKA_SASL_PASSWORD_FILE), and that the user has this mechanism",
    )


def _broker_message(error: Exception) -> str:
    """Return the broker's own message."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return "".join(c for c in text[:_MOST_CHARACTERS] if c.isprintable()).rstrip(". ")


def _of_tls(place: _Place, error: ssl.SSLError) -> KafkaRefusedError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        addresses = f"{_SERVERS}, and the broker's advertised.listeners,"
        fault, hint = certificate_fault(error, addresses, _AUTHORITIES)
        return place.refuses(f"has a certificate that {fault}", hint)
    # Alerts of TLS 1.3 and before (RFC 8446, section 6) by OpenSSL's names.
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        if place.settings.ssl_cert_file is None:
            return place.refuses(
                f"requires a client certificate ({said})",
                "Set kafka.ssl_cert_file and kafka.ssl_key_file"
                " (BRIDGE_KAFKA_SSL_CERT_FILE, BRIDGE_KAFKA_SSL_KEY_FILE)",
            )
        return place.refuses(
            "refuses the certificate of kafka.ssl_cert_file"
            f" (BRIDGE_KAFKA_SSL_CERT_FILE): {said}",
            "It must be issued by a CA that the broker trusts, and not have expired",
        )
    return None


# -- Probes with another protocol --------------------------------------------------


async def _wrong_protocol(place: _Place) -> KafkaRefusedError | None:
    protocol = place.settings.security_protocol
    sasl = "SASL_" if protocol.startswith("SASL_") else ""
    if protocol.endswith("PLAINTEXT"):
        if await _speaks_tls(place):
            return place.refuses(
                "requires TLS at this address", f"Set {_PROTOCOL} to {sasl}SSL"
            )
    elif await _speaks_plainly(place):
        return place.refuses(
            "doesn't use TLS at this address", f"Set {_PROTOCOL} to {sasl}PLAINTEXT"
        )
    if not sasl and (wanted := await _mechanisms(place)):
        return place.refuses(
            f"requires SASL ({', '.join(wanted)})",
            f"Set {_PROTOCOL} to SASL_{protocol}, and {_SASL}",
        )
    return None


async def _speaks_tls(place: _Place) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    # Nothing is sent to it: it needn't be trusted.
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except (ssl.SSLError, OSError) as error:
        # An alert is a TLS response, too.
        return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
    writer.transport.abort()
    return True


async def _speaks_plainly(place: _Place) -> bool:
    with suppress(OSError, errors.KafkaError):
        # It only requests the broker's API versions.
        connection = await create_conn(place.host, place.port)
        connection.close()
        return True
    return False


async def _mechanisms(place: _Place) -> list[str]:
    """Request a listener's mechanisms; none if it requires no authentication."""
    with suppress(OSError, errors.KafkaError):
        connection = await _without_sasl(place)
        try:
            # Any name will do: the response lists the mechanisms.
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
        finally:
            connection.close()
        return sorted(answer.enabled_mechanisms)
    return []
