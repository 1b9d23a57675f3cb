"""A session against a scripted server: authorizing and subscribing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import AuthorizationError
from tests.kit.scripted import (
    CHANNEL,
    FakeAuthorizer,
    Peer,
    refusal,
    spoken,
    staged,
    work,
)


async def test_row_28_a_failed_authorization_fails_the_connection(
    autojump_clock: MockClock,
) -> None:
    """The next one follows after a second or more; Retry-After is honored."""
    authorizer = FakeAuthorizer(
        AuthorizationError("HTTP 500", status=500),
        AuthorizationError("HTTP 429", status=429, retry_after_seconds=70),
        AuthorizationError("no answer"),
    )
    async with staged(spoken(work), authorizer=authorizer) as (stage, session):
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(90)
        assert session.statistics.subscribed
        assert session.statistics.connects["not_authorized"] == 3
        waits = [b - a for a, b in pairwise(stage.server.dials)]
        assert len(set(stage.authorizer.asked)) == len(waits) + 1 == 4
    assert all(1 <= wait < 3 for wait in (waits[0], waits[2]))
    assert waits[1] == pytest.approx(70, abs=1)
    failures = [log for log in logs if log["event"] == "session.failed"]
    assert [(log["code"], log["reason"]) for log in failures] == [
        (500, "HTTP 500"),
        (429, "HTTP 429"),
        (None, "no answer"),
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"type": "AuthError", "error": "no", "status": 401}, 401),
        ({"error": "bad name", "status": 4009}, 4009),
    ],
)
async def test_row_32_a_subscription_that_stays_refused_is_final(
    data: dict[str, object], code: int, autojump_clock: MockClock
) -> None:
    """The error names the settings that have to belong together."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        while True:
            await peer.read_until("pusher:subscribe")
            await peer.say("pusher:subscription_error", channel=CHANNEL, data=data)

    error, stage = await refusal(spoken(script))
    assert error.code == code
    assert "BRIDGE_PUSHER_APP_KEY" in str(error)
    assert len(stage.authorizer.asked) == 2


async def test_row_33_a_late_answer_is_as_good_as_one_in_time(
    autojump_clock: MockClock,
) -> None:
    """The answer to the first subscription comes after the second was sent."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        await peer.read_until("pusher:subscribe")
        await peer.read_until("pusher:subscribe")
        await peer.acknowledge()
        await peer.say(
            "pusher:subscription_error",
            channel=CHANNEL,
            data={"error": "Existing subscription", "status": 4009},
        )
        await peer.answer_pings()

    async with staged(spoken(script)) as (_, session):
        await trio.sleep(30)
        assert session.statistics.subscribed
        assert session.statistics.connects == {"subscribed": 1}


async def test_row_34_an_error_without_channel_answers_the_subscription(
    autojump_clock: MockClock,
) -> None:
    """Reverb refuses with 4009, keeps the connection and says no more."""

    async def script(peer: Peer) -> None:
        await peer.establish()
        while True:
            await peer.read_until("pusher:subscribe")
            await peer.say(
                "pusher:error",
                data=json.dumps(
                    {"code": 4009, "message": "Connection is unauthorized"}
                ),
            )

    error, _ = await refusal(spoken(script))
    assert error.code == 4009
    assert "Connection is unauthorized" in str(error)
    assert "BRIDGE_CLIENT_ID" in str(error)


async def test_row_27_a_signature_for_a_connection_that_is_gone_is_not_sent(
    autojump_clock: MockClock,
) -> None:
    """The server goes while the endpoint signs: what it signs has no use."""
    said: list[str] = []

    class Slow(FakeAuthorizer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            auth = await super().authorize(socket_id, channel)
            if len(self.asked) == 1:
                await trio.sleep(5)
                said.append("the late signature")
            return auth

    async def gone(peer: Peer) -> None:
        await peer.establish()
        await trio.sleep(1)
        await trio.aclose_forcefully(peer.stream)

    async def later(peer: Peer) -> None:
        await peer.establish()
        frame = await peer.subscribe()
        assert frame["data"]["auth"].endswith(peer.socket_id)
        await peer.answer_pings()

    authorizer = Slow()
    async with staged(spoken(gone), spoken(later), authorizer=authorizer) as (
        stage,
        session,
    ):
        await trio.sleep(10)
        assert session.statistics.subscribed
        assert len(stage.server.dials) == len(authorizer.asked) == 2
    assert said == []
