"""How long a token is kept, and what a provider's failure costs."""

from __future__ import annotations

import asyncio  # noqa: TID251 - runs the room's coroutines
from collections.abc import Callable

import pytest
from aiokafka.errors import KafkaConnectionError  # noqa: TID251 - what it may raise

from bridge.errors import ConfigError, KafkaError, KafkaRefusedError
from bridge.kafka import tokens
from bridge.kafka.tokens import Token, TokenSource, token_source
from bridge.settings import KafkaSettings


class Clock:
    """Monotonic seconds that a test turns on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Give them."""
        return self.now


class Endpoint:
    """Gives numbered tokens, or fails."""

    def __init__(self, lifetime_seconds: float = 100.0) -> None:
        self.lifetime_seconds = lifetime_seconds
        self.asked = 0
        self.failure: KafkaError | ConfigError | None = None

    async def fetch(self) -> Token:
        """Answer after the others have had their turn."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return Token(f"token-{self.asked}", self.lifetime_seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which tokens grow old."""
    made = Clock()
    monkeypatch.setattr(tokens, "time", made)
    return made


def test_a_token_is_kept_until_shortly_before_it_expires(clock: Clock) -> None:
    """Four fifths of its life; then another one is fetched, once for all who wait."""

    async def use() -> None:
        endpoint = Endpoint()
        source = TokenSource(endpoint.fetch)
        found = await asyncio.gather(*(source.get() for _ in range(5)))
        assert found == ["token-1"] * 5
        clock.now += 79
        assert await source.get() == "token-1"
        clock.now += 2
        found = await asyncio.gather(*(source.get() for _ in range(5)))
        assert found == ["token-2"] * 5
        assert endpoint.asked == 2

    asyncio.run(use())


def test_a_token_without_a_known_end_is_used_once(clock: Clock) -> None:
    """A provider that doesn't say how long is asked for each connection."""

    async def use() -> None:
        source = TokenSource(Endpoint(0.0).fetch)
        assert [await source.get() for _ in range(2)] == ["token-1", "token-2"]

    asyncio.run(use())


def test_a_failure_holds_for_some_seconds(clock: Clock) -> None:
    """Three producers that try twice a second don't flood a provider that refuses."""

    async def use() -> None:
        endpoint = Endpoint()
        endpoint.failure = KafkaRefusedError("no")
        source = TokenSource(endpoint.fetch)
        for _ in range(10):
            with pytest.raises(KafkaRefusedError):
                await source.get()
            clock.now += 0.4
        assert endpoint.asked == 1
        endpoint.failure = None
        clock.now += 2
        assert await source.get() == "token-2"

    asyncio.run(use())


@pytest.mark.parametrize(
    ("after_seconds", "expected"), [(1.0, "token-1"), (6.0, "token-2")]
)
def test_a_refused_token_is_not_shown_again(
    clock: Clock, after_seconds: float, expected: str
) -> None:
    """A provider may have changed its keys: another token is fetched, not at once."""

    async def use() -> None:
        source = TokenSource(Endpoint().fetch)
        await source.get()
        clock.now += after_seconds
        source.refused()
        assert await source.get() == expected

    asyncio.run(use())


@pytest.mark.parametrize("make", [KafkaRefusedError, ConfigError])
def test_aiokafka_hears_of_a_connection_that_failed(
    make: Callable[[str], KafkaError | ConfigError],
) -> None:
    """Any other error would end its tasks for ever; the reason stays in it."""

    async def use() -> None:
        endpoint = Endpoint()
        endpoint.failure = make("why")
        provider = TokenSource(endpoint.fetch)
        with pytest.raises(KafkaConnectionError, match="why"):
            await provider.token()

    asyncio.run(use())


def test_a_source_belongs_to_its_loop_and_its_settings() -> None:
    """Clients of one loop share a token, those of another or of others don't."""
    first, second = KafkaSettings(), KafkaSettings()

    async def use() -> TokenSource:
        own = token_source(first)
        assert token_source(first) is own
        assert token_source(second) is not own
        return own

    assert asyncio.run(use()) is not asyncio.run(use())
