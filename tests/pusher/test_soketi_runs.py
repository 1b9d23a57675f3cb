"""
Runs of one account against a real soketi that are cancelled and begun again.

A session has one channel and never unsubscribes: what it wants is its run. To
subscribe, to unsubscribe and to subscribe again is to run, to cancel at any moment
and to run again at once; `test_cancellations.py` does the same at every single step
of the scheduler against a scripted server.
"""

from __future__ import annotations

import random

import psutil
import structlog.testing
import trio

from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.session import State
from tests.kit.publisher import Soketi
from tests.pusher.account import Account, until, until_it_is


# Against soketi on this machine a run is subscribed within 10 to 20 ms.
_LONGEST_RUN_SECONDS = 0.03
_RUNS = 40


def _descriptors() -> int:
    return psutil.Process().num_fds()


async def test_row_36_the_last_run_of_an_account_wins(soketi: Soketi) -> None:
    """One subscription is left, each event comes once to it and never to another."""
    chance = random.Random(36)
    runs: list[Account] = []
    async with trio.open_nursery() as nursery:

        async def run(account: Account, scope: trio.CancelScope) -> None:
            with scope:
                await account.session.run()

        scope = trio.CancelScope()
        for _ in range(_RUNS):
            # The run before may still be closing its socket: nobody waits for it.
            scope.cancel()
            scope = trio.CancelScope()
            runs.append(Account(soketi, "36"))
            nursery.start_soon(run, runs[-1], scope)
            await trio.sleep(chance.uniform(0, _LONGEST_RUN_SECONDS))
        last = runs[-1]
        await until(lambda: last.subscribed)
        await until_it_is(lambda: soketi.subscriptions(last.channel), 1)
        sent = [str(number) for number in range(20)]
        for data in sent:
            await soketi.publish(last.channel, JOB_EVENT, data)
        await until(lambda: len(last.events) >= len(sent))
        assert last.data == sent
        assert [account.data for account in runs[:-1]] == [[]] * (_RUNS - 1)
        states = {account.session.statistics.state for account in runs[:-1]}
        assert states == {State.DISCONNECTED}
        nursery.cancel_scope.cancel()
    # Chance has met both kinds: runs that were subscribed, and runs that weren't.
    assert len({len(wire.heard) for account in runs for wire in account.wires}) > 1


async def test_row_42_cancelled_runs_leave_nothing(soketi: Soketi) -> None:
    """No descriptor, no subscription, and no signature in any log line."""
    chance = random.Random(42)
    runs = [Account(soketi, "42") for _ in range(_RUNS)]
    with structlog.testing.capture_logs() as logs:
        before = _descriptors()
        for account in runs:
            with trio.move_on_after(chance.uniform(0, _LONGEST_RUN_SECONDS)):
                await account.session.run()
        assert _descriptors() == before
    assert await soketi.subscriptions(runs[0].channel) == 0
    signatures = [
        soketi.sign_channel(wire.socket_id, account.channel)
        for account in runs
        for wire in account.wires
        if wire.heard
    ]
    assert signatures
    assert logs
    assert not any(signature in repr(logs) for signature in signatures)
