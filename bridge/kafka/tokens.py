"""
Tokens for OAUTHBEARER: kept until shortly before they expire.

Owns what aiokafka asks for when it connects. Where a token comes from is in `oidc` and
`msk`. Clients come and go; those of one loop share a token. aiokafka 0.14 takes any
answer of a broker for a yes: that one refuses a token is found out by `probe`.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiokafka.abc import (  # noqa: TID251 - this room speaks to aiokafka
    AbstractTokenProvider,
)
from aiokafka.errors import KafkaConnectionError  # noqa: TID251 - as above

from bridge.errors import BridgeError


__all__ = ["Token", "TokenProvider", "TokenSource"]

# Kafka's own sasl.login.refresh.window.factor: a connection made with the last of a
# token is ended by the broker soon after.
_USED_SHARE = 0.8

# A provider that refuses, or a broker that refuses a token, is asked again after so
# long: three producers that try twice a second would be taken for an attack.
PAUSE_SECONDS = 5.0


class Token(msgspec.Struct, frozen=True):
    """
    A token as it was got.

    Attributes:
        text: What the broker wants to see.
        lifetime_seconds: How long it is good from now; 0 where nobody says, and then
            it is used once.
    """

    text: str
    lifetime_seconds: float

    def __repr__(self) -> str:
        return "Token('***')"


class TokenSource:
    """
    Gives a token that will do for a while, and gets another one in time.

    `fetch` has a deadline of its own, and raises nothing but `BridgeError`.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]]) -> None:
        self._fetch = fetch
        self._fetching = asyncio.Lock()
        self._token: Token | None = None
        self._failure: BridgeError | None = None
        self._got_at = float("-inf")

    async def token(self) -> str:
        """
        Give a token.

        Raises:
            KafkaRefusedError: Whoever gives them refuses.
            KafkaUnreachableError: He doesn't answer.
            ConfigError: A file can't be used.
        """
        # One asks, the others take what he gets. No deadline: `fetch` has its own.
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


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc] # aiokafka is untyped
    """What aiokafka asks when it connects."""

    def __init__(
        self, source: TokenSource, extensions: dict[str, str] | None = None
    ) -> None:
        self._source = source
        self._extensions = extensions or {}

    async def token(self) -> str:
        """
        Give a token.

        Raises:
            KafkaConnectionError: There is none. Any other error would end aiokafka's
                own tasks for ever.
        """
        try:
            return await self._source.token()
        except BridgeError as error:
            raise KafkaConnectionError(str(error)) from error

    def extensions(self) -> dict[str, str]:
        """Give the SASL extensions."""
        return self._extensions
