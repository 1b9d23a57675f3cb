"""
Access tokens of an OIDC provider: the only module of this room that knows httpx.

It asks a token endpoint in the name of a client (RFC 6749, section 4.4) and says why it
got none. How long a token is kept stands in `tokens`. Nothing of an answer's body is
repeated in an error: it may hold a token.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final
from urllib.parse import quote_plus

import httpx
import msgspec

from bridge import __version__
from bridge.errors import KafkaError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.security import authorities
from bridge.kafka.tokens import Token
from bridge.settings import KafkaSettings


__all__ = ["fetch_token"]

# A provider answers within a second; aiokafka waits for the token with the
# connection half made, which brokers leave open for 20 s and more.
_TIMEOUT_SECONDS: Final = 10.0

# Tokens with many groups in them have some ten KB. A login page is not read to its end.
_MOST_BODY_BYTES: Final = 256 * 1024

# RFC 6750, section 2.1: what can stand behind "Bearer ".
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# RFC 6749, section 5.2: the words that may be repeated.
_REASONS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"}
    | {"unsupported_grant_type", "invalid_scope"}
)

# Too Many Requests and Request Timeout say nothing of the client.
_PASSING = frozenset({408, 429})


class _Answer(msgspec.Struct, frozen=True):
    """An HTTP status, and the body as far as it was read."""

    status: int
    body: bytes

    def member(self, name: str) -> Any:
        """Give a member of the JSON object that it should be, or None."""
        try:
            decoded = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return None
        return decoded.get(name) if isinstance(decoded, dict) else None


async def fetch_token(settings: KafkaSettings) -> Token:
    """Get a token; raises why the endpoint gives none."""
    secret = settings.sasl_oauth_client_secret
    assert secret is not None
    given = secret.reveal()
    answer = await _ask(settings, given)
    if answer.status == 401 and (renewed := secret.reveal()) != given:
        # One that was exchanged meanwhile deserves a try of its own.
        answer = await _ask(settings, renewed)
    return _token(settings, answer)


async def _ask(settings: KafkaSettings, secret: str) -> _Answer:
    url = settings.sasl_oauth_token_url
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await _exchange(settings, secret)
    except TimeoutError as error:
        raise KafkaUnreachableError(
            f"the token endpoint {url} gave no answer within {_TIMEOUT_SECONDS:g} s;"
            " the bridge asks again"
        ) from error
    except httpx.HTTPError as error:
        if (refusal := _uncertified(error, settings)) is not None:
            raise refusal from error
        reason = str(error) or type(error).__name__
        raise KafkaUnreachableError(
            f"the token endpoint {url} can't be asked: {reason}."
            " kafka.sasl_oauth_token_url (BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL) says where"
            " it is"
        ) from error


async def _exchange(settings: KafkaSettings, secret: str) -> _Answer:
    form = {"grant_type": "client_credentials"}
    if settings.sasl_oauth_scope is not None:
        form["scope"] = settings.sasl_oauth_scope
    if settings.sasl_oauth_audience is not None:
        form["audience"] = settings.sasl_oauth_audience
    assert settings.sasl_oauth_token_url is not None
    assert settings.sasl_oauth_client_id is not None
    # Read each time: certificates are exchanged too.
    tls = authorities("kafka.sasl_oauth_ca_file", settings.sasl_oauth_ca_file)
    # One client for one request: requests are rare, and nothing stays open.
    # trust_env off: a proxy or .netrc of the environment must not meet the secret.
    async with (
        httpx.AsyncClient(
            verify=tls,
            # RFC 6749, section 2.3.1: both are encoded as forms are.
            auth=(quote_plus(settings.sasl_oauth_client_id), quote_plus(secret)),
            timeout=None,  # noqa: S113 - the caller's scope is the timeout
            trust_env=False,
            follow_redirects=False,
        ) as client,
        client.stream(
            "POST",
            settings.sasl_oauth_token_url,
            data=form,
            headers={
                "Accept": "application/json",
                # What is compressed could be far larger than what is counted.
                "Accept-Encoding": "identity",
                "User-Agent": f"dryapi-kafka-bridge/{__version__}",
            },
        ) as response,
    ):
        received = bytearray()
        async for chunk in response.aiter_raw():
            received += chunk
            if len(received) > _MOST_BODY_BYTES:
                await response.aclose()
                break
        return _Answer(response.status_code, bytes(received))


def _token(settings: KafkaSettings, answer: _Answer) -> Token:
    if answer.status != 200:
        raise _refusal(settings, answer)
    text = answer.member("access_token")
    if not isinstance(text, str) or _TOKEN.fullmatch(text) is None:
        raise KafkaRefusedError(
            f"the token endpoint {settings.sasl_oauth_token_url} answers without an"
            " access token: kafka.sasl_oauth_token_url"
            " (BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL) may name something else"
        )
    lifetime = answer.member("expires_in")
    is_number = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
    return Token(text, max(0.0, float(lifetime)) if is_number else 0.0)


def _refusal(settings: KafkaSettings, answer: _Answer) -> KafkaError:
    status, url = answer.status, settings.sasl_oauth_token_url
    word = answer.member("error")
    said = f"HTTP {status}"
    if isinstance(word, str) and word in _REASONS:
        said += f", {word}"
    if status >= 500 or status in _PASSING:
        return KafkaUnreachableError(
            f"the token endpoint {url} gives no token now ({said}); the bridge asks"
            " again"
        )
    if status in {401, 403} or word in {"invalid_client", "unauthorized_client"}:
        return KafkaRefusedError(
            f"the token endpoint {url} refuses the client"
            f" {settings.sasl_oauth_client_id!r} ({said}). Check"
            " kafka.sasl_oauth_client_id and kafka.sasl_oauth_client_secret"
            " (BRIDGE_KAFKA_SASL_OAUTH_CLIENT_ID,"
            " BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET or ..._FILE), and that the client"
            " may use the grant client_credentials."
        )
    return KafkaRefusedError(
        f"the token endpoint {url} refuses the request ({said}). Check"
        " kafka.sasl_oauth_token_url, kafka.sasl_oauth_scope and"
        " kafka.sasl_oauth_audience (BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL, ..._SCOPE,"
        " ..._AUDIENCE)."
    )


def _uncertified(
    error: httpx.HTTPError, settings: KafkaSettings
) -> KafkaRefusedError | None:
    """Find out whether the endpoint's certificate was the reason."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return KafkaRefusedError(
                f"the certificate of the token endpoint {settings.sasl_oauth_token_url}"
                f" was not accepted: {cause.verify_message.rstrip('.')}. A private"
                " authority goes into kafka.sasl_oauth_ca_file"
                " (BRIDGE_KAFKA_SASL_OAUTH_CA_FILE)."
            )
        cause = cause.__cause__ or cause.__context__
    return None
