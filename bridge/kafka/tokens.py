"""
Tokens for OAUTHBEARER: where they come from, and kept until shortly before they expire.

They come from an OIDC provider's token endpoint (client credentials: RFC 6749, section
4.4). No error repeats the body of its response, which may hold a token. For Amazon MSK
a request is signed here, and the brokers check it. The clients of one loop share a
token. aiokafka 0.14 ignores that a broker refuses a token: `probe` finds that out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote_plus, urlencode
from weakref import WeakKeyDictionary

import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.http.post import NoResponseError, basic_credentials, post
from bridge.kafka.loop import in_daemon_thread
from bridge.kafka.security import authorities
from bridge.settings import KafkaSettings, split_extensions


__all__ = ["Token", "TokenSource", "msk_signer", "token_source"]

# Kafka's own sasl.login.refresh.window.factor: a connection made with the last of a
# token is ended by the broker soon after.
_USED_SHARE = 0.8

# A provider that refuses, or a broker that refuses a token, is asked again after so
# long: three producers that try twice a second would be taken for an attack.
PAUSE_SECONDS = 5.0

# Signing is arithmetic; AWS's credentials may take a request or two before it.
_SIGN_SECONDS: Final = 15.0

# A provider answers within a second; aiokafka waits for the token with the
# connection half made, which brokers leave open for 20 s and more.
_TIMEOUT_SECONDS: Final = 10.0

_URL = "kafka.sasl_oauth_token_url (BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL)"

# Tokens with many groups in them have some ten KB. A login page is not read to its end.
_MOST_BODY_BYTES: Final = 256 * 1024

# RFC 6750, section 2.1: what can follow "Bearer ".
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# RFC 6749, section 5.2: the words that may be repeated.
_REASONS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"}
    | {"unsupported_grant_type", "invalid_scope"}
)

# Too Many Requests and Request Timeout say nothing of the client.
_PASSING = frozenset({408, 429})


class Token(msgspec.Struct, frozen=True):
    """A token, and how long it is good; 0, which no server sends, is once."""

    text: str
    lifetime_seconds: float

    def __repr__(self) -> str:
        return "Token('***')"


class TokenSource(AbstractTokenProvider):  # type: ignore[misc] # aiokafka is untyped
    """
    Gives a token that will do for a while, and gets another one in time.

    `fetch` has a deadline of its own, and raises nothing but `BridgeError`.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        extensions: Mapping[str, str] | None = None,
    ) -> None:
        self._fetch = fetch
        self._extensions = dict(extensions or {})
        self._fetching = asyncio.Lock()
        self._token: Token | None = None
        self._failure: BridgeError | None = None
        self._got_at = float("-inf")

    async def get(self) -> str:
        """Give a token; raises what `fetch` does."""
        # One asks, the others take what it gets. No deadline: `fetch` has its own.
        async with self._fetching:
            age = time.monotonic() - self._got_at
            if self._token is not None and (
                age < self._token.lifetime_seconds * _USED_SHARE
            ):
                return self._token.text
            if self._failure is not None and age < PAUSE_SECONDS:
                raise self._failure
            self._token = self._failure = None
            try:
                self._token = await self._fetch()
            except BridgeError as error:
                self._failure = error
                raise
            finally:
                self._got_at = time.monotonic()
            return self._token.text

    def refused(self) -> None:
        """Note that a broker refuses the token: the next one asks for another."""
        if time.monotonic() - self._got_at >= PAUSE_SECONDS:
            self._token = None

    async def token(self) -> str:
        """Give a token to aiokafka, whose own tasks any other error ends for ever."""
        try:
            return await self.get()
        except BridgeError as error:
            raise KafkaConnectionError(str(error)) from error

    def extensions(self) -> dict[str, str]:
        """Give the SASL extensions."""
        return self._extensions


# A source's lock belongs to a loop, and a reader's loop is another than the relay's.
_sources: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[int, tuple[KafkaSettings, TokenSource]]
] = WeakKeyDictionary()


def token_source(settings: KafkaSettings) -> TokenSource:
    """Give what the running loop's clients with these settings get tokens from."""
    own = _sources.setdefault(asyncio.get_running_loop(), {})
    if id(settings) not in own:
        fetch: Callable[[], Awaitable[Token]] = partial(_fetch, settings)
        if settings.sasl_mechanism == "AWS_MSK_IAM":
            assert settings.sasl_aws_region is not None
            fetch = msk_signer(settings.sasl_aws_region)
        text = settings.sasl_oauth_extensions
        pairs = [one.partition("=") for one in split_extensions(text)] if text else []
        source = TokenSource(fetch, {name: value for name, _, value in pairs})
        # The settings are kept with it, so that their identity can't become another's.
        own[id(settings)] = settings, source
    return own[id(settings)][1]


# -- Amazon MSK ---------------------------------------------------------------------


def msk_signer(region: str) -> Callable[[], Awaitable[Token]]:
    """Give what signs tokens with the credentials that AWS's chain finds."""
    try:
        # 0.3 s to import.
        from aws_msk_iam_sasl_signer import (  # noqa: PLC0415
            MSKAuthTokenProvider,
        )
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM) AWS_MSK_IAM needs the"
            " signer of AWS, which is not installed",
            hint="Install it: pip install 'dryapi-kafka-bridge[msk]'",
        ) from error
    # It blocks: it may ask the machine's metadata service or STS.
    sign = partial(MSKAuthTokenProvider.generate_auth_token, region)

    async def fetch() -> Token:
        try:
            async with asyncio.timeout(_SIGN_SECONDS):
                text, expires_ms = await in_daemon_thread(sign)
        except TimeoutError as error:
            raise KafkaUnreachableError(
                f"AWS gave no credentials for Kafka within {_SIGN_SECONDS:g} s; the"
                " bridge asks again"
            ) from error
        except (BotoCoreError, ClientError, ValueError, AttributeError) as error:
            # Its text may repeat what the environment held. The signer (1.0.2) asks
            # None for its key where nothing was found.
            is_none = isinstance(error, AttributeError)
            reason = "none found" if is_none else type(error).__name__
            raise KafkaRefusedError(
                "AWS gives no credentials for kafka.sasl_mechanism AWS_MSK_IAM"
                f" ({reason})",
                hint="Give the pod or machine a role that may kafka-cluster:Connect, or"
                " set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE",
            ) from None
        return Token(str(text), max(0.0, int(expires_ms) / 1000 - time.time()))

    return fetch


# -- An OIDC provider ----------------------------------------------------------------


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


async def _fetch(settings: KafkaSettings) -> Token:
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
    url, client_id = settings.sasl_oauth_token_url, settings.sasl_oauth_client_id
    assert url is not None
    assert client_id is not None
    form = {"grant_type": "client_credentials"}
    if settings.sasl_oauth_scope is not None:
        form["scope"] = settings.sasl_oauth_scope
    if settings.sasl_oauth_audience is not None:
        form["audience"] = settings.sasl_oauth_audience
    # RFC 6749, section 2.3.1: both are encoded as forms are.
    credentials = basic_credentials(quote_plus(client_id), quote_plus(secret))
    try:
        status, body = await post(
            url,
            urlencode(form).encode(),
            {
                "Accept": "application/json",
                "Authorization": f"Basic {credentials}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            # Read each time: certificates are replaced too.
            tls=authorities("kafka.sasl_oauth_ca_file", settings.sasl_oauth_ca_file),
            timeout_seconds=_TIMEOUT_SECONDS,
            max_bytes=_MOST_BODY_BYTES,
        )
    except NoResponseError as error:
        if error.certificate is not None:
            raise KafkaRefusedError(
                f"the certificate of the token endpoint {url} was not accepted:"
                f" {error.certificate}",
                hint="A private CA is set with kafka.sasl_oauth_ca_file"
                " (BRIDGE_KAFKA_SASL_OAUTH_CA_FILE)",
            ) from error
        raise KafkaUnreachableError(
            f"the token endpoint {url} {error}; the bridge asks again",
            hint=f"Check {_URL}",
        ) from error
    return _Answer(status, body)


def _token(settings: KafkaSettings, answer: _Answer) -> Token:
    if answer.status != 200:
        raise _refusal(settings, answer)
    text = answer.member("access_token")
    if not isinstance(text, str) or _TOKEN.fullmatch(text) is None:
        raise KafkaRefusedError(
            f"the token endpoint {settings.sasl_oauth_token_url} answers without an"
            " access token",
            hint=f"{_URL} may name something else",
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
            f" {settings.sasl_oauth_client_id!r} ({said})",
            hint="Check kafka.sasl_oauth_client_id and kafka.sasl_oauth_client_secret"
            " (BRIDGE_KAFKA_SASL_OAUTH_CLIENT_ID,"
            " BRIDGE_KAFKA_SASL_OAUTH_CLIENT_SECRET or ..._FILE), and that the client"
            " may use the grant client_credentials",
        )
    return KafkaRefusedError(
        f"the token endpoint {url} refuses the request ({said})",
        hint="Check kafka.sasl_oauth_token_url, kafka.sasl_oauth_scope and"
        " kafka.sasl_oauth_audience (BRIDGE_KAFKA_SASL_OAUTH_TOKEN_URL, ..._SCOPE,"
        " ..._AUDIENCE)",
    )
