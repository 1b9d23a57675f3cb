"""A session whose real soketi is shut down, killed, or stands still for a moment."""

from __future__ import annotations

from contextlib import suppress

import httpx  # noqa: TID251  # what publishing to a killed soketi raises
import structlog.testing
import trio

from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.coverage import Cause
from bridge.pusher.session import State
from bridge.pusher.session import Outcome
from tests.kit.soketi import SoketiServer
from tests.pusher.account import (
    CLOSE,
    Account,
    Signer,
    Wire,
    running,
    subscribed,
    until,
)


# A server that was restarted is found within two seconds (backoff.py); the rest is
# for what a busy machine takes to do it.
_FOUND_SECONDS = 2.5

# What this process may be late on a busy machine.
_LATE_SECONDS = 1.0


async def _restarted(soketi: SoketiServer, account: Account) -> None:
    """Start a soketi that is down, and wait until the account is subscribed."""
    await trio.to_thread.run_sync(soketi.start)
    await until(lambda: account.subscribed, _FOUND_SECONDS)


def _assert_fresh_signatures(soketi: SoketiServer, account: Account) -> None:
    """Each connection that subscribed did it with the signature of its socket id."""
    for wire in account.wires:
        for frame in wire.said:
            if frame["event"] == "pusher:subscribe":
                assert frame["data"]["auth"] == soketi.sign_channel(
                    wire.socket_id, account.channel
                )


async def test_rows_14_15_a_soketi_that_shuts_down_is_found_again(
    own_soketi: SoketiServer,
) -> None:
    """It says 4200 for three seconds to everyone, and is not stormed meanwhile."""
    async with subscribed(own_soketi) as account:
        statistics = account.session.statistics
        with structlog.testing.capture_logs() as logs:
            await trio.to_thread.run_sync(own_soketi.stop)
            assert statistics.state is not State.SUBSCRIBED
            farewell = account.wires[0].heard[-1]
            assert farewell["event"] == "pusher:error"
            assert farewell["data"]["code"] == 4200
            refused = [wire for wire in account.wires[1:] if wire.heard]
            assert 1 <= len(refused) <= 6
            for wire in refused:
                (complaint,) = wire.heard
                assert complaint["data"]["code"] == 4200
                assert wire.opcodes_heard[-1] == CLOSE
            await _restarted(own_soketi, account)
        lost = [log for log in logs if log["event"] == "session.lost"]
        assert [(log["code"], log["action"]) for log in lost] == [(4200, "retry_now")]
        assert lost[0]["delay_seconds"] == 0
        waits = [log["delay_seconds"] for log in logs if "delay_seconds" in log][1:]
        assert min(waits) > 0.3
        assert len(account.wires) <= 10
        assert statistics.reconnects == 1
        (gap,) = account.ear.interruptions
        assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, 4200)
        await own_soketi.publish(account.channel, JOB_EVENT, "again")
        await until(lambda: account.data == ["again"])
        _assert_fresh_signatures(own_soketi, account)


async def test_rows_15_24_a_soketi_that_is_killed_is_found_again(
    own_soketi: SoketiServer,
) -> None:
    """An end without a word is one loss, without a code."""
    async with subscribed(own_soketi) as account:
        with structlog.testing.capture_logs() as logs:
            await trio.to_thread.run_sync(own_soketi.kill)
            await until(lambda: not account.subscribed)
            assert CLOSE not in account.wires[0].opcodes_heard
            await _restarted(own_soketi, account)
        lost = [log for log in logs if log["event"] == "session.lost"]
        assert [(log["code"], log["action"]) for log in lost] == [(None, "retry_now")]
        assert account.session.statistics.reconnects == 1
        (gap,) = account.ear.interruptions
        assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, None)
        began, back = account.ear.subscriptions
        assert began <= gap.since_us < back
        await own_soketi.publish(account.channel, JOB_EVENT, "again")
        await until(lambda: account.data == ["again"])


async def test_rows_25_26_only_a_stable_connection_is_retried_at_once(
    odd_soketi: SoketiServer,
) -> None:
    """Killed three times: young, young again, and after a stable second."""
    settings = {"stable_after_seconds": 1, "backoff_initial_seconds": 0.4}
    async with subscribed(odd_soketi, **settings) as account:
        with structlog.testing.capture_logs() as logs:
            for uptime_seconds in (0.0, 0.0, 1.2):
                await trio.sleep(uptime_seconds)
                odd_soketi.kill()
                await until(lambda: not account.subscribed)
                await _restarted(odd_soketi, account)
        lost = [log for log in logs if log["event"] == "session.lost"]
        assert [log["delay_seconds"] == 0 for log in lost] == [True, False, True]
        assert account.session.statistics.reconnects == 3
        assert len(account.ear.interruptions) == 3
        assert len(account.ear.subscriptions) == 4
        await odd_soketi.publish(account.channel, JOB_EVENT, "again")
        await until(lambda: account.data == ["again"])
        _assert_fresh_signatures(odd_soketi, account)


async def test_row_09_a_soketi_that_stands_still_is_left_in_time(
    own_soketi: SoketiServer,
) -> None:
    """Its kernel still accepts everything; only the pong doesn't come."""
    settings = {"activity_timeout_seconds": 0.3, "pong_timeout_seconds": 0.4}
    async with subscribed(own_soketi, **settings) as account:
        await until(lambda: account.session.statistics.proofs.answered_us > 0)
        own_soketi.pause()
        paused_at = trio.current_time()
        await until(lambda: not account.subscribed)
        assert trio.current_time() - paused_at < 0.3 + 0.4 + _LATE_SECONDS
        own_soketi.resume()
        await until(lambda: account.subscribed, _FOUND_SECONDS)


async def test_row_27_a_signature_for_a_connection_that_is_gone_is_not_sent(
    own_soketi: SoketiServer,
) -> None:
    """Soketi stood still while the endpoint took its time for the first one."""
    cancelled = trio.Event()

    class Slow(Signer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            auth = await super().authorize(socket_id, channel)
            if len(self.asked) == 1:
                own_soketi.pause()
                try:
                    await trio.sleep(1.0)
                except trio.Cancelled:
                    cancelled.set()
                    own_soketi.resume()
                    raise
            return auth

    signer = Slow(own_soketi.sign_channel)
    settings = {"activity_timeout_seconds": 0.2, "pong_timeout_seconds": 0.3}
    async with subscribed(own_soketi, authorizer=signer, **settings) as account:
        assert cancelled.is_set()
        first, *_, last = account.wires
        assert [frame["event"] for frame in first.said] == ["pusher:ping"]
        assert signer.asked == [first.socket_id, last.socket_id]
        _assert_fresh_signatures(own_soketi, account)
        await trio.sleep(0.7)
        assert account.subscribed
        assert account.wire is last


async def test_row_33_a_soketi_that_acknowledges_nothing_is_left(
    own_soketi: SoketiServer,
) -> None:
    """The subscription is sent twice, then the connection is given up."""

    class Pausing(Signer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            if not self.asked:
                own_soketi.pause()
            return await super().authorize(socket_id, channel)

    account = Account(
        own_soketi,
        authorizer=Pausing(own_soketi.sign_channel),
        subscribe_timeout_seconds=0.3,
    )
    begun_at = trio.current_time()
    async with running(account):
        statistics = account.session.statistics
        await until(lambda: statistics.connects[Outcome.NOT_SUBSCRIBED] == 1)
        # Two timeouts, and a second for a close handshake that nobody answers.
        assert 0.6 <= trio.current_time() - begun_at < 1.6 + _LATE_SECONDS
        own_soketi.resume()
        await until(lambda: account.subscribed, _FOUND_SECONDS + 1)
    said = [frame["event"] for frame in account.wires[0].said]
    assert said == ["pusher:subscribe"] * 2
    assert len(account.wires) == 2


async def test_row_24_a_soketi_that_is_killed_within_a_frame(
    odd_soketi: SoketiServer,
) -> None:
    """What was whole is delivered, what was not isn't, and the session is back."""

    def kill(wire: Wire) -> None:
        if odd_soketi.running and len(wire.received) > 1_000_000:
            odd_soketi.kill()

    async with subscribed(odd_soketi, on_received=kill) as account:
        for number in range(3):
            await odd_soketi.publish(account.channel, JOB_EVENT, str(number))
        # Soketi has seldom time to answer this.
        with suppress(httpx.TransportError):
            await odd_soketi.publish(account.channel, JOB_EVENT, "x" * 12_000_000)
        await until(lambda: not account.subscribed)
        assert account.session.statistics.last_close_code is None
        assert 1_000_000 < len(account.wires[0].received) < 12_000_000
        assert account.data == ["0", "1", "2"]
        await _restarted(odd_soketi, account)
