"""
What a connection that failed says of the settings.

A broker that refuses says so, in SASL's or in TLS's words. One that is spoken to in
the wrong way only ends the connection: whether it is that is found out by speaking to
it in the other way, without showing it any secret.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka import errors  # noqa: TID251 - this room speaks to aiokafka
from aiokafka.conn import create_conn  # noqa: TID251 - as above
from aiokafka.protocol.admin import SaslHandShakeRequest  # noqa: TID251 - as above

from bridge.errors import KafkaRefusedError
from bridge.settings import KafkaSettings


__all__ = ["Place", "in_words", "refusal"]

_SASL = "kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM)"
_PROTOCOL = "kafka.security_protocol (BRIDGE_KAFKA_SECURITY_PROTOCOL)"

# OpenSSL's X509_V_ERR_*: see its manual page of X509_STORE_CTX_get_error.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_HOST, _OTHER_ADDRESS = 62, 64

# Words of a broker that go into a sentence: some hundred characters at most.
_MOST_WORDS = 300


class Place(msgspec.Struct, frozen=True):
    """
    An address, and how to speak to it.

    Attributes:
        settings: Kafka's.
        arguments: `client_arguments` of them without the addresses.
        host: Its host.
        port: Its port.
    """

    settings: KafkaSettings
    arguments: dict[str, Any]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def refusal(place: Place, error: Exception) -> KafkaRefusedError | None:
    """
    Tell whether a failed connection fails until a setting is another one.

    Args:
        place: Where to.
        error: What `create_conn` raised, or the first request.

    Returns:
        What to say; None where the next try may work.
    """
    sentence = _of_sasl(place, error)
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        # aiokafka drops the broker's list on the way.
        others = ", ".join(await _mechanisms(place)) or "none"
        sentence = (
            f"doesn't let {place.settings.sasl_mechanism} in at this address, but"
            f" {others}: set {_SASL} to what it has, or enable it there"
        )
    for cause in _causes(error):
        if sentence is None and isinstance(cause, ssl.SSLError):
            sentence = _of_tls(place, cause)
    if sentence is None and _is_ended(error):
        sentence = await _other_way(place)
    if sentence is None:
        return None
    return KafkaRefusedError(f"The Kafka broker {place} {sentence}.")


def in_words(error: Exception, timeout_seconds: float) -> str:
    """Say why a connection failed, where nothing else is known."""
    if isinstance(error, TimeoutError):  # an OSError as well
        return f"no answer within {timeout_seconds:g} s"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or cause}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        # asyncio's own text has the address once more.
        return os.strerror(error.errno)
    if _is_ended(error):
        return "it ends the connection without a word"
    return str(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_ended(error: Exception) -> bool:
    """Whether the other side ended the connection, or spoke something else."""
    if isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError):
        return True
    return isinstance(error, errors.KafkaConnectionError)


# -- What a broker says ----------------------------------------------------------


def _of_sasl(place: Place, error: Exception) -> str | None:
    settings = place.settings
    mechanism = settings.sasl_mechanism
    if isinstance(error, errors.IllegalSaslStateError):
        protocol = settings.security_protocol
        plain = "SSL" if protocol == "SASL_SSL" else "PLAINTEXT"
        return f"asks nobody to sign in at this address: set {_PROTOCOL} to {plain}"
    # A certificate that doesn't verify is a ValueError as well.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return (
            f"doesn't prove that it knows the password of {settings.sasl_username!r}:"
            " it may not be yours. Look at kafka.bootstrap_servers"
            " (BRIDGE_KAFKA_BOOTSTRAP_SERVERS)"
        )
    refused = (
        errors.SaslAuthenticationFailed,
        errors.AuthenticationFailedError,
        errors.AuthenticationMethodNotSupported,
    )
    if not isinstance(error, refused):
        return None
    said = _said(error)
    if mechanism == "OAUTHBEARER":
        return (
            f"refuses the token of {settings.sasl_oauth_client_id!r}: {said}. What it"
            " wants (issuer, audience, scope, extensions) must be what"
            " kafka.sasl_oauth_token_url, kafka.sasl_oauth_scope,"
            " kafka.sasl_oauth_audience and kafka.sasl_oauth_extensions"
            " (BRIDGE_KAFKA_SASL_OAUTH_...) get"
        )
    if mechanism == "AWS_MSK_IAM":
        return (
            f"refuses the IAM credentials: {said}. Their policy must allow"
            " kafka-cluster:Connect, and kafka.sasl_aws_region"
            " (BRIDGE_KAFKA_SASL_AWS_REGION) be the cluster's"
        )
    return (
        f"refuses to let {settings.sasl_username!r} in with {mechanism}: {said}. Check"
        " kafka.sasl_username and kafka.sasl_password (BRIDGE_KAFKA_SASL_USERNAME,"
        " BRIDGE_KAFKA_SASL_PASSWORD or BRIDGE_KAFKA_SASL_PASSWORD_FILE), and that the"
        " user has this mechanism"
    )


def _said(error: Exception) -> str:
    """Give the broker's own words."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return "".join(c for c in text[:_MOST_WORDS] if c.isprintable()).rstrip(". ")


def _of_tls(place: Place, error: ssl.SSLError) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    # Alerts of TLS 1.3 and before (RFC 8446, section 6) by OpenSSL's names.
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        said = reason.partition("ALERT_")[2].replace("_", " ").lower()
        if place.settings.ssl_cert_file is None:
            return (
                f"wants a certificate of its clients ({said}): set kafka.ssl_cert_file"
                " and kafka.ssl_key_file (BRIDGE_KAFKA_SSL_CERT_FILE,"
                " BRIDGE_KAFKA_SSL_KEY_FILE)"
            )
        return (
            "refuses the certificate of kafka.ssl_cert_file"
            f" (BRIDGE_KAFKA_SSL_CERT_FILE): {said}. It must be of an authority that"
            " the broker trusts, and not have expired"
        )
    return None


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    code = error.verify_code
    if code in {_EXPIRED, _NOT_YET_VALID}:
        return f"shows a certificate that is not good now ({said}): renew it there"
    if code in {_OTHER_HOST, _OTHER_ADDRESS}:
        return (
            f"shows a certificate for another name ({said}): use a name that stands in"
            " it, in kafka.bootstrap_servers (BRIDGE_KAFKA_BOOTSTRAP_SERVERS) and in"
            " the broker's advertised.listeners"
        )
    return (
        f"shows a certificate of nobody that is trusted (certificate verify failed:"
        f" {said}): kafka.ssl_ca_file (BRIDGE_KAFKA_SSL_CA_FILE) must hold the"
        " authority that issued it"
    )


# -- What it does where it is spoken to in another way ---------------------------


async def _other_way(place: Place) -> str | None:
    protocol = place.settings.security_protocol
    sasl = "SASL_" if protocol.startswith("SASL_") else ""
    if protocol.endswith("PLAINTEXT"):
        if await _speaks_tls(place):
            return f"speaks TLS at this address: set {_PROTOCOL} to {sasl}SSL"
    elif await _speaks_plainly(place):
        return f"speaks no TLS at this address: set {_PROTOCOL} to {sasl}PLAINTEXT"
    if not sasl and (wanted := await _mechanisms(place)):
        return (
            f"wants its clients to sign in ({', '.join(wanted)}): set {_PROTOCOL} to"
            f" SASL_{protocol}, and {_SASL}"
        )
    return None


async def _speaks_tls(place: Place) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    # Nothing is sent to it; whether it can be trusted is asked when that is.
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except (ssl.SSLError, OSError) as error:
        # An answer in TLS, if no friendly one.
        return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
    writer.transport.abort()
    return True


async def _speaks_plainly(place: Place) -> bool:
    with suppress(OSError, errors.KafkaError):
        # It asks for the versions that the broker knows, and no more.
        connection = await create_conn(place.host, place.port)
        connection.close()
        return True
    return False


async def _mechanisms(place: Place) -> list[str]:
    """Ask which mechanisms a listener has; none where nobody has to sign in."""
    arguments = {
        name: value
        for name, value in place.arguments.items()
        if not name.startswith("sasl_")
    }
    arguments["security_protocol"] = place.settings.security_protocol.removeprefix(
        "SASL_"
    )
    with suppress(OSError, errors.KafkaError):
        connection = await create_conn(place.host, place.port, **arguments)
        try:
            # Any name does: the answer lists what there is.
            answer = await connection.send(SaslHandShakeRequest("PLAIN"))
        finally:
            connection.close()
        return sorted(answer.enabled_mechanisms)
    return []
