"""Tokens: how long one is kept, what a provider's failure costs, and Amazon MSK's."""

from __future__ import annotations

import asyncio  # noqa: TID251 - runs the room's coroutines
import base64
import datetime as dt
import sys
import time
import urllib.parse
from collections.abc import Callable

import pytest
from aiokafka.errors import KafkaConnectionError  # noqa: TID251 - what it may raise

from bridge.errors import ConfigError, ExitCode, KafkaError, KafkaRefusedError
from bridge.kafka import tokens
from bridge.kafka.connection import client_arguments
from bridge.kafka.tokens import Token, TokenSource, msk_signer, token_source
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


_SECRET = "canary-of-a-secret-key-0123456789abcdef"
_SETTINGS = KafkaSettings(
    bootstrap_servers="b-1.example.kafka.eu-west-1.amazonaws.com:9098",
    security_protocol="SASL_SSL",
    sasl_mechanism="AWS_MSK_IAM",
    sasl_aws_region="eu-west-1",
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown credentials, and no other source of some."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_SESSION_TOKEN": "session-of-a-role",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)


async def sign() -> Token:
    """Sign a token for a region."""
    return await msk_signer("eu-west-1")()


def test_a_token_is_a_signed_request_to_connect() -> None:
    """It names action, region and key, is good for 15 minutes and holds no secret."""
    token = asyncio.run(sign())
    padded = token.text + "=" * (-len(token.text) % 4)
    url = base64.urlsafe_b64decode(padded).decode()
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    assert (parts.scheme, parts.hostname) == ("https", "kafka.eu-west-1.amazonaws.com")
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    today = dt.datetime.now(dt.UTC).strftime("%Y%m%d")
    assert query["X-Amz-Credential"] == (
        f"AKIAEXAMPLEEXAMPLE/{today}/eu-west-1/kafka-cluster/aws4_request"
    )
    assert query["X-Amz-Security-Token"] == "session-of-a-role"
    assert query["X-Amz-Expires"] == "900"
    assert 800 < token.lifetime_seconds <= 900
    signed_at = dt.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    assert abs(signed_at.timestamp() - time.time()) < 60
    assert _SECRET not in url
    assert token.text not in repr(token)


def test_clients_get_it_as_a_token_of_oauthbearer() -> None:
    """What brokers of MSK take for IAM is OAUTHBEARER; one token serves all clients."""

    async def ask() -> set[str]:
        found = set()
        for _ in range(3):
            arguments = client_arguments(_SETTINGS)
            assert arguments["sasl_mechanism"] == "OAUTHBEARER"
            provider = arguments["sasl_oauth_token_provider"]
            assert isinstance(provider, TokenSource)
            assert provider.extensions() == {}
            found.add(await provider.token())
        return found

    assert len(asyncio.run(ask())) == 1


def test_without_credentials_the_error_says_where_to_give_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine without a role is a refusal, not a defect."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(KafkaRefusedError, match="AWS_ACCESS_KEY_ID"):
        asyncio.run(sign())


def test_credentials_that_cannot_be_used_are_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of a pair is named by its kind, and its text stays unseen."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(KafkaRefusedError, match="PartialCredentialsError") as caught:
        asyncio.run(sign())
    assert "AKIAEXAMPLE" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the signer the start ends with a line, not with a traceback."""
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)

    async def make() -> None:
        client_arguments(_SETTINGS)

    with pytest.raises(ConfigError, match=r"dryapi-kafka-bridge\[msk\]") as caught:
        asyncio.run(make())
    assert caught.value.exit_code is ExitCode.USAGE
    assert "BRIDGE_KAFKA_SASL_MECHANISM" in str(caught.value)
