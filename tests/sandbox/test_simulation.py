"""When events come: the rate, requested jobs, and the stop after which none comes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bridge.sandbox import SandboxConfig, Statistics
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.errors import TooManyJobsError
from bridge.sandbox.jobs import JobBook, JobError, JobRequest, Status
from bridge.sandbox.previews import STAGES, Pictures
from bridge.sandbox.publisher import Emission
from bridge.sandbox.simulation import Simulation


_PICTURES = Pictures(
    previews=(("data:x",) * STAGES,), jpegs=((b"x",) * STAGES,), results=(b"x",)
)


class _Publisher:
    """Notes what is published and when; takes as long as it is told."""

    def __init__(self) -> None:
        self.emissions: list[tuple[float, Emission]] = []
        self.subscribed = trio.Event()
        self.takes_seconds = 0.0
        self.flushed = 0

    async def run(self) -> None:
        """See `Publisher`."""

    async def wait_for_subscriber(self) -> None:
        """See `Publisher`."""
        await self.subscribed.wait()

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`."""
        await trio.sleep(self.takes_seconds)
        now = trio.current_time()
        self.emissions += [(now, emission) for emission in emissions]

    async def flush(self) -> None:
        """See `Publisher`."""
        await trio.lowlevel.checkpoint()
        self.flushed += 1


class _Room:
    def __init__(self, **options: Any) -> None:
        config = SandboxConfig(seed=3, **options)
        self.statistics = Statistics()
        addresses = Addresses("http://s", config.app)
        book = JobBook(config, _PICTURES, addresses, self.statistics)
        self.publisher = _Publisher()
        self.simulation = Simulation(config, book, self.publisher)

    @property
    def count(self) -> int:
        return len(self.publisher.emissions)


@pytest.mark.parametrize("rate", [0.5, 20, 333.3, 5_000])
async def test_the_rate_is_kept(
    nursery: trio.Nursery, autojump_clock: MockClock, rate: float
) -> None:
    """After twenty seconds twenty times the rate has come, evenly."""
    room = _Room(rate=rate, wait_for_subscriber=False)
    nursery.start_soon(room.simulation.run)
    for part in range(1, 5):
        await trio.sleep(5)
        assert room.count == pytest.approx(rate * 5 * part, abs=max(1.5, rate * 0.02))
    nursery.cancel_scope.cancel()


async def test_every_job_takes_its_steps_in_order(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Jobs overlap; each goes from processing to its end, or fails in silence."""
    room = _Room(rate=200, fail=0.2, wait_for_subscriber=False)
    nursery.start_soon(room.simulation.run)
    await trio.sleep(60)
    nursery.cancel_scope.cancel()
    statuses = defaultdict(list)
    for _, emission in room.publisher.emissions:
        statuses[emission.request_id].append(emission.status)
    assert len(statuses) > 300
    for seen in statuses.values():
        assert seen[0] == "processing"
        assert set(seen[1:-1]) <= {"in_progress"}
        assert seen.count("done") <= 1
    done = sum(seen[-1] == "done" for seen in statuses.values())
    assert done == room.statistics.jobs_done > 200
    assert 30 < room.statistics.jobs_failed < 200
    # A hundred run side by side at this rate, never more.
    assert room.statistics.jobs_running <= 100


async def test_nothing_is_emitted_before_the_first_subscriber(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The simulation waits; what was asked for doesn't."""
    room = _Room(rate=10)
    nursery.start_soon(room.simulation.run)
    await trio.sleep(100)
    assert room.count == 0
    assert not room.simulation.emitting
    wanted = JobRequest(steps=3, interval_seconds=1, fail=False)
    job = room.simulation.start_requested(wanted)
    await trio.sleep(10)
    assert [one.request_id for _, one in room.publisher.emissions] == (
        [job.request_id] * 5
    )
    room.publisher.subscribed.set()
    await trio.sleep(10)
    assert room.count == pytest.approx(105, abs=2)
    nursery.cancel_scope.cancel()


async def test_a_requested_job_keeps_its_own_pace(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its events come at the interval that was asked for, rate or no rate."""
    room = _Room(rate=0, wait_for_subscriber=False)
    nursery.start_soon(room.simulation.run)
    await trio.sleep(1)
    wanted = JobRequest(steps=4, interval_seconds=2.5, fail=False)
    room.simulation.start_requested(wanted)
    begun = trio.current_time()
    await trio.sleep(60)
    times = [round(at - begun, 3) for at, _ in room.publisher.emissions]
    assert times == [2.5, 5.0, 7.5, 10.0, 12.5, 15.0]
    assert room.publisher.emissions[-1][1].status == "done"
    nursery.cancel_scope.cancel()


async def test_nothing_is_emitted_after_the_stop(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Once the rate is 0, every job stands still until the rate rises again."""
    room = _Room(rate=100, wait_for_subscriber=False)
    room.publisher.takes_seconds = 0.3
    nursery.start_soon(room.simulation.run)
    for _ in range(20):
        wanted = JobRequest(steps=100, interval_seconds=0.1, fail=False)
        room.simulation.start_requested(wanted) if room.count else None
        await trio.sleep(0.5)
    await room.simulation.set_rate(0)
    stopped = room.count
    assert stopped > 50
    assert room.publisher.flushed == 1
    await trio.sleep(1_000)
    assert room.count == stopped
    running = room.statistics.jobs_running
    assert running > 0
    # A job that is asked for now runs; the ones before still stand.
    late = room.simulation.start_requested(JobRequest(steps=1, fail=False))
    await trio.sleep(10)
    emitted = Counter(one.request_id for _, one in room.publisher.emissions[stopped:])
    assert emitted == {late.request_id: 3}
    await room.simulation.set_rate(50)
    await trio.sleep(1_000)
    assert room.statistics.jobs_done > running
    nursery.cancel_scope.cancel()


async def test_a_stall_is_not_made_up_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A publisher that is behind slows the simulation; no burst follows."""
    room = _Room(rate=1_000, wait_for_subscriber=False)
    nursery.start_soon(room.simulation.run)
    await trio.sleep(1)
    room.publisher.takes_seconds = 10
    await trio.sleep(30)
    room.publisher.takes_seconds = 0
    await trio.sleep(10)
    before = room.count
    await trio.sleep(1)
    assert room.count - before == pytest.approx(1_000, rel=0.05)
    assert room.count < 15_000
    nursery.cancel_scope.cancel()


async def test_requested_jobs_are_bounded(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The thousand and first job that runs at once is refused."""
    room = _Room(rate=0, wait_for_subscriber=False)
    with pytest.raises(TooManyJobsError):
        room.simulation.start_requested(JobRequest())
    nursery.start_soon(room.simulation.run)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(1_000):
        room.simulation.start_requested(JobRequest(interval_seconds=60))
    with pytest.raises(TooManyJobsError):
        room.simulation.start_requested(JobRequest())
    assert room.statistics.jobs_started == 1_000
    nursery.cancel_scope.cancel()


async def test_an_ended_job_takes_no_further_step(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its end comes at once, once, and leaves its place to another job."""
    room = _Room(rate=0, wait_for_subscriber=False)
    nursery.start_soon(room.simulation.run)
    await trio.testing.wait_all_tasks_blocked()
    wanted = JobRequest(interval_seconds=10, steps=0, fail=False)
    jobs = [room.simulation.start_requested(wanted) for _ in range(1_000)]
    await trio.sleep(15)
    assert room.count == 1_000
    done, failed, *_ = jobs
    assert await room.simulation.end(done)
    assert await room.simulation.end(failed, JobError("UNKNOWN_ERROR", "because"))
    assert not await room.simulation.end(done)
    assert not await room.simulation.end(failed)
    (last,) = [emission for _, emission in room.publisher.emissions[1_000:]]
    assert (last.request_id, last.status) == (done.request_id, "done")
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2):
        room.simulation.start_requested(wanted)
    await trio.sleep(1_000)
    about = [
        one for _, one in room.publisher.emissions if one.request_id == done.request_id
    ]
    assert [one.status for one in about] == ["processing", "done"]
    assert (room.statistics.jobs_done, room.statistics.jobs_failed) == (1_001, 1)
    nursery.cancel_scope.cancel()


async def test_every_step_is_announced_before_its_event(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Whoever is told hears of pending, of each step and of the end on command."""
    heard: list[tuple[Status, Status, int]] = []
    room = _Room(rate=0, wait_for_subscriber=False)
    room.simulation._announce = lambda job, previous: heard.append(
        (previous, job.status, room.count)
    )
    nursery.start_soon(room.simulation.run)
    await trio.testing.wait_all_tasks_blocked()
    wanted = JobRequest(interval_seconds=10, steps=5, fail=False)
    job = room.simulation.start_requested(wanted)
    await trio.sleep(25)
    await room.simulation.end(job, JobError("UNKNOWN_ERROR", "because"))
    assert heard == [
        ("pending", "processing", 0),
        ("processing", "in_progress", 1),
        ("in_progress", "error", 2),
    ]
    nursery.cancel_scope.cancel()
