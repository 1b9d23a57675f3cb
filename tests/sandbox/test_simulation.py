"""When simulated events come: the rate, requested jobs, and the stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bridge.sandbox import Sandbox, SandboxConfig
from bridge.sandbox.jobs import JobRequest
from bridge.sandbox.simulation import Emission


class _Publisher:
    """Keeps what is published and when; takes as long as a test sets."""

    def __init__(self, **options: Any) -> None:
        self.emissions: list[tuple[float, Emission]] = []
        self.subscribed = trio.Event()
        self.takes_seconds = 0.0
        self.sandbox = Sandbox(SandboxConfig(seed=3, **options), publisher=self)

    @property
    def count(self) -> int:
        return len(self.emissions)

    async def wait_for_subscriber(self) -> None:
        """See `Publisher`."""
        await self.subscribed.wait()

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`."""
        await trio.sleep(self.takes_seconds)
        now = trio.current_time()
        self.emissions += [(now, emission) for emission in emissions]

    async def aclose(self) -> None:
        """See `Publisher`."""


_Run = Callable[..., Awaitable[_Publisher]]


@pytest.fixture
async def run(nursery: trio.Nursery) -> _Run:
    """Run a sandbox with these options."""

    async def begin(**options: Any) -> _Publisher:
        publisher = _Publisher(previews=False, **options)
        await nursery.start(publisher.sandbox.run)
        return publisher

    return begin


async def test_the_rate_is_kept_and_a_stall_is_not_made_up_for(
    run: _Run, autojump_clock: MockClock
) -> None:
    """Evenly; a publisher that is behind slows it, and no burst follows."""
    rates = (0.5, 20, 333.3, 5_000)
    runs = {rate: await run(rate=rate, wait_for_subscriber=False) for rate in rates}
    for part in range(1, 5):
        await trio.sleep(5)
        for rate, publisher in runs.items():
            wanted = pytest.approx(rate * 5 * part, abs=max(1.5, rate * 0.02))
            assert publisher.count == wanted
    publisher = runs[5_000]
    publisher.takes_seconds = 10
    await trio.sleep(30)
    publisher.takes_seconds = 0
    await trio.sleep(10)
    before = publisher.count
    await trio.sleep(1)
    assert publisher.count - before == pytest.approx(5_000, rel=0.05)


async def test_requested_jobs_have_a_pace_of_their_own(
    run: _Run, autojump_clock: MockClock
) -> None:
    """Without a subscriber too; the simulation waits for one."""
    publisher = await run(rate=10)
    await trio.sleep(100)
    assert publisher.count == 0
    wanted = JobRequest(steps=4, interval_seconds=2.5, fail=False)
    publisher.sandbox.simulation.start_requested(wanted)
    began = trio.current_time()
    await trio.sleep(60)
    times = [round(at - began, 3) for at, _ in publisher.emissions]
    assert times == [2.5, 5.0, 7.5, 10.0, 12.5, 15.0]
    publisher.subscribed.set()
    await trio.sleep(10)
    assert publisher.count == pytest.approx(106, abs=2)


async def test_nothing_is_emitted_after_the_stop(
    run: _Run, autojump_clock: MockClock
) -> None:
    """No job goes on until the rate rises; one that is requested now runs."""
    publisher = await run(rate=100, wait_for_subscriber=False)
    publisher.takes_seconds = 0.3
    simulation = publisher.sandbox.simulation
    for _ in range(20):
        wanted = JobRequest(steps=100, interval_seconds=0.1, fail=False)
        simulation.start_requested(wanted)
        await trio.sleep(0.5)
    await simulation.set_rate(0)
    stopped = publisher.count
    assert stopped > 50
    await trio.sleep(1_000)
    assert publisher.count == stopped
    running = publisher.sandbox.statistics.jobs_running
    late = simulation.start_requested(JobRequest(steps=1, fail=False))
    await trio.sleep(10)
    emitted = Counter(one.request_id for _, one in publisher.emissions[stopped:])
    assert emitted == {late.request_id: 3}
    await simulation.set_rate(50)
    await trio.sleep(1_000)
    assert publisher.sandbox.statistics.jobs_done > running > 0
