"""A session whose real soketi is lost, or which is cancelled and run again."""

from __future__ import annotations

import random

import psutil
import pytest
import structlog.testing
import trio

from bridge.pusher.connection import State
from bridge.pusher.coverage import Cause
from bridge.pusher.protocol import JOB_EVENT
from tests.kit.publisher import Soketi
from tests.kit.soketi import SoketiServer
from tests.pusher.account import (
    CLOSE,
    Account,
    Signer,
    running,
    subscribed,
    until,
    until_it_is,
)


# Starts of a server take longer than the rest of this folder.
pytestmark = pytest.mark.slow

# A server that was restarted is found within two seconds (close_codes.py); the rest is
# for what a busy machine takes to do it.
_FOUND_SECONDS = 2.5

# What this process may be late on a busy machine.
_LATE_SECONDS = 1.0

# Against soketi on this machine a run is subscribed within 3 to 20 ms.
_LONGEST_RUN_SECONDS = 0.03
_RUNS = 40


async def _restarted(soketi: SoketiServer, account: Account) -> None:
    """Start a soketi that is down; the account is subscribed, and gets events."""
    await trio.to_thread.run_sync(soketi.start)
    await until(lambda: account.subscribed, _FOUND_SECONDS)
    await soketi.publish(account.channel, JOB_EVENT, "again")
    await until(lambda: account.data[-1:] == ["again"])
    # Each connection that subscribed did it with the signature of its socket id.
    for wire in account.wires:
        for frame in wire.said:
            if frame["event"] == "pusher:subscribe":
                assert frame["data"]["auth"] == soketi.sign_channel(
                    wire.socket_id, account.channel
                )


async def test_rows_14_15_26_a_soketi_that_shuts_down_is_found_again(
    own_soketi: SoketiServer,
) -> None:
    """It says 4200 for three seconds to everyone, and is not stormed meanwhile."""
    async with subscribed(own_soketi) as account:
        with structlog.testing.capture_logs() as logs:
            await trio.to_thread.run_sync(own_soketi.stop)
            assert not account.subscribed
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
        (lost,) = [log for log in logs if log["event"] == "session.lost"]
        assert (lost["code"], lost["action"]) == (4200, "retry_now")
        assert lost["delay_seconds"] == 0
        waits = [log["delay_seconds"] for log in logs if "delay_seconds" in log][1:]
        assert min(waits) > 0.3
        assert len(account.wires) <= 10
        assert account.session.statistics.connects["subscribed"] == 2
        (gap,) = account.ear.interruptions
        assert (gap.cause, gap.close_code) == (Cause.DISCONNECTED, 4200)


async def test_row_09_a_soketi_that_does_not_answer_is_left_in_time(
    own_soketi: SoketiServer,
) -> None:
    """Its kernel still accepts everything; only the pong doesn't come."""
    settings = {"activity_timeout_seconds": 0.3, "timeout_seconds": 0.4}
    async with subscribed(own_soketi, **settings) as account:
        own_soketi.pause()
        paused_at = trio.current_time()
        await until(lambda: not account.subscribed)
        assert trio.current_time() - paused_at < 0.3 + 0.4 + _LATE_SECONDS
        own_soketi.resume()
        await until(lambda: account.subscribed, _FOUND_SECONDS)
        assert [gap.cause for gap in account.ear.interruptions] == [Cause.DEAF]


async def test_row_27_a_signature_for_a_connection_that_is_gone_is_not_sent(
    own_soketi: SoketiServer,
) -> None:
    """Soketi is killed while the endpoint signs: what it signs has no use."""
    cancelled = trio.Event()

    class Slow(Signer):
        async def authorize(self, socket_id: str, channel: str) -> str:
            auth = await super().authorize(socket_id, channel)
            if len(self.asked) == 1:
                own_soketi.kill()
                try:
                    await trio.sleep(5)
                except trio.Cancelled:
                    cancelled.set()
                    raise
            return auth

    signer = Slow(own_soketi.sign_channel)
    async with running(Account(own_soketi, authorizer=signer)) as account:
        with trio.fail_after(_LATE_SECONDS):
            await cancelled.wait()
        await _restarted(own_soketi, account)
        assert account.wires[0].said == []
        assert signer.asked == [account.wires[0].socket_id, account.wire.socket_id]


def _sockets(soketi: Soketi) -> int:
    """Count this process's connections to soketi."""
    port = int(soketi.url.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return sum(one.raddr[1:] == (port,) for one in connections)


@pytest.mark.parametrize("overlap", [True, False])
async def test_rows_36_42_runs_of_an_account_are_cancelled_at_any_moment(
    soketi: Soketi, *, overlap: bool
) -> None:
    """The last run gets each event once; no socket and no signature is left over."""
    chance = random.Random(36)
    runs: list[Account] = []
    before = _sockets(soketi)

    async def run(account: Account, scope: trio.CancelScope) -> None:
        with scope:
            await account.session.run()

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            for _ in range(_RUNS):
                scope = trio.CancelScope()
                runs.append(Account(soketi, f"36-{overlap}"))
                nursery.start_soon(run, runs[-1], scope)
                await trio.sleep(_LONGEST_RUN_SECONDS * chance.random() ** 3)
                # The next run begins while this one closes its socket, or after that.
                scope.cancel()
                if not overlap:
                    await until(lambda: len(nursery.child_tasks) == 0)
            last = Account(soketi, f"36-{overlap}")
            nursery.start_soon(last.session.run)
            await until(lambda: last.subscribed)
            await until_it_is(lambda: soketi.subscriptions(last.channel), 1)
            sent = [str(number) for number in range(20)]
            for data in sent:
                await soketi.publish(last.channel, JOB_EVENT, data)
            await until(lambda: len(last.events) >= len(sent))
            assert last.data == sent
            nursery.cancel_scope.cancel()
    assert [account.data for account in runs] == [[]] * _RUNS
    for account in (*runs, last):
        assert account.session.statistics.state is State.DISCONNECTED
    assert _sockets(soketi) == before
    await until_it_is(lambda: soketi.subscriptions(last.channel), 0)
    wires = [wire for account in runs for wire in account.wires]
    # Chance has met both kinds: runs that were subscribed, and runs that weren't.
    assert len({len(wire.heard) for wire in wires}) > 1
    assert logs
    for wire in wires:
        if len(wire.heard) > 1:
            # It was subscribed, and its close was answered.
            assert wire.opcodes_heard[-1] == CLOSE
            assert soketi.sign_channel(wire.socket_id, last.channel) not in repr(logs)
