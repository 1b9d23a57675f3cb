"""
Tokens for OAUTHBEARER: kept until shortly before they expire.

Owns what aiokafka asks for when it connects, and Amazon MSK's tokens: a signed request,
made here and checked by the brokers. Those of an OIDC provider are in `oidc`. Clients
come and go; those of one loop share a token. aiokafka 0.14 takes any answer of a broker
for a yes: that one refuses a token is found out by `probe`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaRefusedError,
    KafkaUnreachableError,
)
from bridge.kafka.loop import in_daemon_thread


__all__ = ["Token", "TokenSource", "msk_signer"]

# Kafka's own sasl.login.refresh.window.factor: a connection made with the last of a
# token is ended by the broker soon after.
_USED_SHARE = 0.8

# A provider that refuses, or a broker that refuses a token, is asked again after so
# long: three producers that try twice a second would be taken for an attack.
PAUSE_SECONDS = 5.0

# Signing is arithmetic; AWS's credentials may take a request or two before it.
_SIGN_SECONDS: Final = 15.0


class Token(msgspec.Struct, frozen=True):
    """A token as it was got, and how long it is good; 0, which nobody says, is once."""

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
            " signer of AWS, which is not installed: pip install"
            " 'dryapi-kafka-bridge[msk]'"
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
                f" ({reason}): give the pod or machine a role that may"
                " kafka-cluster:Connect, or set AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY or AWS_PROFILE."
            ) from None
        return Token(str(text), max(0.0, int(expires_ms) / 1000 - time.time()))

    return fetch
