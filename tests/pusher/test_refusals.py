"""Refusals that last: when they are final, and what comes after that."""

from __future__ import annotations

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import AuthorizationError, RefusedError
from bridge.pusher.coverage import Cause
from bridge.pusher.refusal import Refusal
from bridge.pusher.session import Session
from bridge.pusher.statistics import Statistics
from tests.kit.scripted import (
    FakeAuthorizer,
    Peer,
    ScriptedServer,
    Stage,
    closing,
    end_at_once,
    spoken,
    staged,
    work,
)
from tests.pusher.ear import Ear


async def _once(peer: Peer) -> None:
    """Work for a second."""
    await trio.sleep(1)
    await peer.enrol()
    await trio.sleep(1)
    await peer.close(4200)


async def _run_until_refused(session: Session) -> tuple[RefusedError, float]:
    with pytest.raises(RefusedError) as caught:
        await session.run()
    return caught.value, trio.current_time()


async def test_a_refusal_that_lasts_ends_a_session_that_has_worked(
    autojump_clock: MockClock,
) -> None:
    """Tried at the slow pace for the time that is set, then raised with its code."""
    ear = Ear()
    async with trio.open_nursery() as servers:
        server = ScriptedServer([spoken(_once), closing(4001)], servers)
        session = Stage(server, listener=ear).session({"refused_timeout_seconds": 300})
        error, at = await _run_until_refused(session)
        servers.cancel_scope.cancel()
    assert error.code == 4001
    assert "BRIDGE_PUSHER_APP_KEY" in str(error)
    # The first refusal came at 2 s; a try every 22 to 30 s found the end of the time.
    assert 302 <= at <= 332
    assert 11 <= len(server.dials) <= 16
    assert session.is_given_up
    assert session.statistics.refused_reason == str(error)
    assert [one.cause for one in ear.interruptions] == [Cause.DISCONNECTED]


async def test_the_token_is_asked_for_again_at_each_try(
    autojump_clock: MockClock,
) -> None:
    """A token that is valid again within the time goes on as if nothing had been."""
    refused = [AuthorizationError("401", terminal=True, status=401)] * 5

    class Revoked(FakeAuthorizer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            if self.asked and refused:
                self.asked.append(socket_id)
                raise refused.pop()
            return await super().authorize(socket_id, channel)

    authorizer = Revoked()
    async with staged(spoken(_once), spoken(work), authorizer=authorizer) as (
        _,
        session,
    ):
        await trio.sleep(20)
        reasons = [session.statistics.refused_reason]
        await trio.sleep(200)
        reasons.append(session.statistics.refused_reason)
        assert reasons == ["dryAPI refuses the session: 401", None]
        assert session.statistics.subscribed
        assert not session.is_given_up
        assert session.statistics.refused_reason is None
        assert len(authorizer.asked) == len(set(authorizer.asked)) == 7


async def test_run_goes_on_after_a_final_refusal(autojump_clock: MockClock) -> None:
    """It waits, is refused again at once, and works when dryAPI lets it."""
    async with trio.open_nursery() as servers:
        server = ScriptedServer(
            [closing(4009), closing(4009), closing(4009), spoken(work)], servers
        )
        session = Stage(server).session({})
        with structlog.testing.capture_logs() as logs:
            _, first_at = await _run_until_refused(session)
            _, second_at = await _run_until_refused(session)
            _, third_at = await _run_until_refused(session)
            with trio.move_on_after(40):
                await session.run()
        assert session.statistics.refused_reason is None
        servers.cancel_scope.cancel()
    assert first_at == 0
    assert 22 <= second_at - first_at <= 30
    assert 22 <= third_at - second_at <= 30
    assert len(server.dials) == 4
    # One error; the same again and again would say nothing new.
    refused = [log for log in logs if log["event"] == "session.refused"]
    assert [log["log_level"] for log in refused] == ["error", "warning", "warning"]


async def test_a_subscription_ends_a_refusal_for_good(
    autojump_clock: MockClock,
) -> None:
    """After it, the whole time has to pass again."""
    async with trio.open_nursery() as servers:
        server = ScriptedServer([closing(4009), spoken(_once), closing(4009)], servers)
        session = Stage(server).session({"refused_timeout_seconds": 100})
        await _run_until_refused(session)
        began_at = trio.current_time()
        _, at = await _run_until_refused(session)
        servers.cancel_scope.cancel()
    # A slow wait, two seconds of work, the time that is set.
    assert at - began_at >= 22 + 2 + 100


async def test_a_network_that_fails_in_between_neither_ends_nor_proves_a_refusal(
    autojump_clock: MockClock,
) -> None:
    """After an hour without network one refusal ends nothing, the next one does."""
    back_at = 3600.0

    async def unreachable_for_long(stream: trio.abc.Stream) -> None:
        script = end_at_once if trio.current_time() < back_at else closing(4009)
        await script(stream)

    async with trio.open_nursery() as servers:
        server = ScriptedServer(
            [spoken(_once), closing(4009), unreachable_for_long], servers
        )
        session = Stage(server).session({"refused_timeout_seconds": 300})
        _, at = await _run_until_refused(session)
        servers.cancel_scope.cancel()
    after = [dial for dial in server.dials if dial >= back_at]
    assert len(after) == 2
    assert at == after[1]


@pytest.mark.parametrize(
    ("steps", "final"),
    [
        # s: subscribed, r: refused, f: another failure; ten seconds each.
        ("r", True),
        ("fr", True),
        ("sr", False),
        ("srr", False),
        ("srrr", True),
        ("srfr", False),
        ("srffr", False),
        ("srffrr", True),
        ("srfrfrfr", False),
        ("srrrf", True),
        ("srrrfr", True),
        ("srrrs", False),
        ("srrsrr", False),
    ],
)
def test_what_makes_a_refusal_final(steps: str, *, final: bool) -> None:
    """Twenty seconds from the first one, two in a row, and no subscription since."""
    refusal = Refusal(20, Statistics("42"))
    for number, step in enumerate(steps):
        if step == "s":
            refusal.worked()
        elif step == "f":
            refusal.failed()
        else:
            assert refusal.refused("no", number * 10.0) is refusal.is_final
    assert refusal.is_final is final


def test_no_time_means_that_the_first_refusal_is_final() -> None:
    """Also for a session that has worked."""
    refusal = Refusal(0, Statistics("42"))
    refusal.worked()
    assert refusal.refused("no", 5.0)
