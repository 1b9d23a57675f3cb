"""When a refusal is final for a session, and what comes after that."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import RefusedError
from tests.kit.scripted import (
    Peer,
    ScriptedServer,
    Stage,
    closing,
    end_at_once,
    refusal,
    spoken,
    work,
)


async def _once(peer: Peer) -> None:
    """Work for a second."""
    await peer.enrol()
    await trio.sleep(1)
    await peer.close(4200)


# Subscribed, refused (22 to 30 s before the next try), or another failure.
_SCRIPTS = {"s": spoken(_once), "r": closing(4009), "f": end_at_once}


@pytest.mark.parametrize(
    ("steps", "timeout_seconds"),
    [
        ("r", 20),
        ("fr", 20),
        ("sr", 0),
        ("srr", 20),
        ("srrr", 40),
        # An hour without network would prove nothing: two in a row are needed.
        ("srfrr", 20),
        ("srffrfrr", 20),
        # After a subscription the whole time has to pass again.
        ("srsrr", 20),
        ("srrsrrr", 40),
    ],
)
async def test_what_makes_a_refusal_final(
    steps: str, timeout_seconds: int, autojump_clock: MockClock
) -> None:
    """At once at the start; after it worked, two in a row that span the time."""
    error, stage = await refusal(
        *(_SCRIPTS[step] for step in steps), refused_timeout_seconds=timeout_seconds
    )
    assert error.code == 4009
    assert len(stage.server.dials) == len(steps)


async def test_a_refused_session_can_be_run_again(autojump_clock: MockClock) -> None:
    """It waits, is refused again at once, and works when dryAPI lets it."""
    refused = closing(4009)
    times = []
    async with trio.open_nursery() as servers:
        server = ScriptedServer([refused, refused, refused, spoken(work)], servers)
        session = Stage(server).session({})
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(RefusedError) as caught:
                    await session.run()
                assert session.channel.is_refused
                assert session.statistics.refused_reason == str(caught.value)
                times.append(trio.current_time())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.run)
                await trio.sleep(40)
                assert session.statistics.subscribed
                assert not session.channel.is_refused
                assert session.statistics.refused_reason is None
                nursery.cancel_scope.cancel()
        servers.cancel_scope.cancel()
    assert times[0] == 0
    assert 22 <= times[1] <= 30
    assert 22 <= times[2] - times[1] <= 30
    assert len(server.dials) == 4
    # One error; the same again and again would say nothing new.
    levels = [log["log_level"] for log in logs if log["event"] == "session.refused"]
    assert levels == ["error"]
