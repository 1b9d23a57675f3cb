"""Hearing a real soketi: repeated subscriptions, and a process that stands still."""

from __future__ import annotations

import threading
import time

import pytest
import trio

from bridge.pusher.attempt import JOB_EVENT
from bridge.pusher.coverage import Cause
from bridge.pusher.coverage import Stalls
from bridge.pusher.statistics import ProbeOutcome, Probing
from tests.kit.publisher import Soketi
from tests.pusher.account import Account, subscribed, until


# Half a second above what counts as a stall.
_STALL_SECONDS = 1.8


async def test_row_35_soketi_acknowledges_repeats_and_delivers_each_event_once(
    soketi: Soketi,
) -> None:
    """However often the subscription was repeated, it is one."""
    async with subscribed(soketi, probe_interval_seconds=0.1) as account:
        statistics = account.session.statistics
        await until(lambda: statistics.probes[ProbeOutcome.ACKNOWLEDGED] >= 4)
        assert statistics.probing is Probing.ON
        assert set(statistics.probes) == {ProbeOutcome.ACKNOWLEDGED}
        assert await soketi.subscriptions(account.channel) == 1
        sent = [str(number) for number in range(10)]
        for data in sent:
            await soketi.publish(account.channel, JOB_EVENT, data)
        # What came twice would come before this one.
        await soketi.publish(account.channel, JOB_EVENT, "last")
        await until(lambda: "last" in account.data)
        assert account.data == [*sent, "last"]
        assert len(account.wires) == 1
        assert len(account.ear.subscriptions) == 1
        assert account.ear.interruptions == []


def _stand_still(account: Account, soketi: Soketi, data: str, count: int) -> None:
    """Block the loop while another thread has soketi send."""

    async def publish() -> None:
        async with soketi.publisher() as publisher:
            for _ in range(count):
                await publisher.publish(account.channel, JOB_EVENT, data)

    thread = threading.Thread(target=trio.run, args=(publish,))
    thread.start()
    time.sleep(_STALL_SECONDS)
    thread.join()


@pytest.mark.parametrize(
    ("data", "count", "told"),
    [
        ("small", 5, []),
        # 2.7 MB: the kernel may have kept all of it, but nobody could know.
        ("x" * 90_000, 30, [Cause.SUSPENDED]),
    ],
)
async def test_a_loop_that_was_blocked_is_told_if_much_was_waiting(
    soketi: Soketi, data: str, count: int, told: list[Cause]
) -> None:
    """The connection survives either way, and what comes later is delivered."""
    stalls = Stalls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls.run)
        async with subscribed(soketi, stalls=stalls) as account:
            await soketi.publish(account.channel, JOB_EVENT, "before")
            await until(lambda: account.data == ["before"])
            proved_us = account.session.coverage.connection_us
            assert proved_us is not None
            _stand_still(account, soketi, data, count)
            await until(lambda: stalls.count == 1)
            await until(lambda: not account.session.statistics.proofs.held)
            await soketi.publish(account.channel, JOB_EVENT, "after")
            await until(lambda: account.data[-1] == "after")
            assert [one.cause for one in account.ear.interruptions] == told
            for lost in account.ear.interruptions:
                assert proved_us == lost.since_us
                assert lost.until_us is not None
                assert lost.until_us - lost.since_us >= _STALL_SECONDS * 1_000_000
            assert len(account.wires) == 1
        nursery.cancel_scope.cancel()
