"""Each time in which an event may have been missed is a gap, and no other time is."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.e2e.jobs import Load, job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.gap_judge import Gap
from tests.kit.kafka import KafkaServer
from tests.kit.pusher_proxy import PusherProxy


# Liveness within two seconds instead of forty.
_ALERT: dict[str, Any] = {
    "pusher_activity_timeout_seconds": 1,
    "pusher_timeout_seconds": 1,
}

# A subscription is probed at once where jobs are known to run, and nothing comes.
_WATCHFUL: dict[str, Any] = {
    **_ALERT,
    "pusher_probe_interval_seconds": 0.5,
}

# From one ping to the next while events come: a gap may begin so much too early.
_PROOF_SECONDS = 2.0

# From soketi to the bridge: some milliseconds, if the machine has time for it.
_TRIP_SECONDS = 0.5
_PROVED_SECONDS = 0.5

_DISCONNECTED_THRICE = ["first_start", *["disconnected"] * 3]


async def _published(bridge: BridgeProcess, load: Load) -> None:
    await bridge.wait_metrics(
        lambda now: now.published == load.count and now.waiting == 0
    )


def _check_reported(bridge: BridgeProcess, metrics: Metrics) -> None:
    """The gap of its start has one pair of log lines, and is counted once."""
    (opened,) = bridge.logged("gap.opened")
    (closed,) = bridge.logged("gap.closed")
    assert opened["gap_id"] == closed["gap_id"]
    cause = opened["cause"]
    assert metrics.total("bridge_gaps_total", cause=cause) == 1
    assert metrics.total("bridge_gaps_total") == 1
    assert metrics.total("bridge_gap_open") == 0


async def _closed(bridge: BridgeProcess, count: int) -> None:
    """Wait until so many gaps have opened since its start, and none is open."""
    await bridge.wait_metrics(
        lambda now: (
            now.total("bridge_gaps_total") == count
            and now.total("bridge_gap_open") == 0
        )
    )


async def _last_read(scene: Scene, load: Load) -> float:
    """Give when the bridge read the last event that is on the topic."""
    records = await scene.records(load.count)
    texts = [record.headers["ce_time"].decode() for record in records]
    return max(map(datetime.fromisoformat, texts)).timestamp()


def _begins_near(gap: Gap, last_read: float) -> bool:
    """Whether it begins at the last ping that may be expected to be answered."""
    return gap.since >= last_read - _PROOF_SECONDS - _TRIP_SECONDS


def _begun(count: int) -> Sequence[tuple[str, list[str]]]:
    """Make jobs whose end doesn't come."""
    jobs = [job(2) for _ in range(count)]
    return [(request_id, texts[:-1]) for request_id, texts in jobs]


async def _miss(scene: Scene) -> None:
    """Publish what cannot arrive."""
    async with scene.load(arrives="none") as missed:
        await missed.run_together([job(2)])


@pytest.mark.parametrize(
    ("how", "cause"), [(signal.SIGTERM, "stopped"), (signal.SIGKILL, "crashed")]
)
async def test_the_time_without_a_bridge_is_a_gap_and_so_is_that_before_the_first(
    scene: Scene, dryapi: str, how: signal.Signals, cause: str
) -> None:
    """From its last event or proof to the next start; the first has no begin."""
    bridge = scene.bridge(dryapi)
    before = time.time()
    await bridge.start_and_wait()
    after = time.time()
    _check_reported(bridge, await bridge.metrics())
    async with scene.load() as load:
        await load.run_together([job(2) for _ in range(10)])
        await load.run_together(_begun(4))
        await _published(bridge, load)
        last_read = await _last_read(scene, load)
        bridge.send(how)
        await bridge.wait_exit()
        ended = time.time()
        await _miss(scene)
        emitted = time.time()

        await bridge.start_and_wait()
        _check_reported(bridge, await bridge.metrics())
        await load.run_together([job(2) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.waiting == 0 and now.read == 40)
    ending = await scene.end(gaps=["first_start", cause])
    first, gap = ending.gaps
    assert (first.since, first.close_code) == (float("-inf"), None)
    assert first.until is not None
    assert before < first.until < after
    assert not first.jobs_in_flight
    assert (gap.close_code, gap.jobs_in_flight) == (None, 4)
    assert gap.contains(ended, emitted)
    # A crash takes what was proved in its last moments.
    proved = 0.0 if cause == "stopped" else _PROVED_SECONDS
    assert _begins_near(gap, last_read - proved)


@pytest.mark.slow
async def test_a_gap_outlives_the_bridges_that_it_meets(
    scene: Scene, dryapi: str, pusher_proxy: PusherProxy
) -> None:
    """Killed or stopped while one is open, the next bridge closes it, opening none."""

    def break_off() -> None:
        pusher_proxy.refuse()
        pusher_proxy.cut()

    break_off()
    bridge = scene.bridge(dryapi, pusher_url=pusher_proxy.url)
    bridge.start()
    # What is in Kafka was in the outbox before.
    bounds = len(await scene.bounds(1))
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        bridge.send(end)
        await bridge.wait_exit()
        pusher_proxy.resume()
        await bridge.start_and_wait()
        assert bridge.logged("gap.opened") == []
        assert (await bridge.metrics()).total("bridge_gap_open") == 0
        break_off()
        bounds = len(await scene.bounds(bounds + 2))
    pusher_proxy.resume()
    await bridge.wait_ready()
    await scene.end(gaps=_DISCONNECTED_THRICE)


@pytest.mark.slow
async def test_a_process_that_stood_still_and_lost_nothing_has_no_gap(
    scene: Scene, dryapi: str
) -> None:
    """Stopped for seconds amid events, longer than a pong may take."""
    bridge = scene.bridge(dryapi, **_ALERT)
    await bridge.start_and_wait()
    async with scene.load(steady=True) as load:
        await bridge.wait_metrics(lambda now: now.published >= 100)
        bridge.send(signal.SIGSTOP)
        await trio.sleep(2.5)
        bridge.send(signal.SIGCONT)
        later = load.count + 100
        await bridge.wait_metrics(lambda now: now.published >= later)
        await load.stop()
    await _published(bridge, load)
    assert (await bridge.metrics()).total("bridge_connects_total") == 1
    await scene.end()


@asynccontextmanager
async def _standing_still(
    bridge: BridgeProcess, proxy: PusherProxy
) -> AsyncIterator[None]:
    """The connection is lost while the process doesn't run."""
    bridge.send(signal.SIGSTOP)
    proxy.cut()
    yield
    await trio.sleep(1.5)
    bridge.send(signal.SIGCONT)


@asynccontextmanager
async def _hanging(bridge: BridgeProcess, proxy: PusherProxy) -> AsyncIterator[None]:
    """Nothing comes through, no pong either."""
    proxy.hang()
    yield
    # An interval and a pong's time: what else is found takes longer.
    await bridge.wait_metrics(lambda now: now.total("bridge_gap_open") == 1, 5)
    proxy.cut()
    proxy.resume()


@asynccontextmanager
async def _unsubscribed(_: BridgeProcess, proxy: PusherProxy) -> AsyncIterator[None]:
    """Pongs come, and nothing else."""
    proxy.drop()
    yield


_Fault = Callable[[BridgeProcess, PusherProxy], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "cause", "settings", "acknowledgements"),
    [
        pytest.param(_standing_still, "suspended", {}, 1, marks=pytest.mark.slow),
        (_hanging, "deaf", _ALERT, 1),
        # With a job in flight silence is probed, and not a gap. The first probe, by
        # which a session learns whether its server answers any, comes after 5 s.
        pytest.param(_unsubscribed, "deaf", _WATCHFUL, 3, marks=pytest.mark.slow),
    ],
)
async def test_what_a_connection_cannot_bring_is_a_gap(  # noqa: PLR0917 - a table
    scene: Scene,
    dryapi: str,
    pusher_proxy: PusherProxy,
    fault: _Fault,
    cause: str,
    settings: dict[str, Any],
    acknowledgements: int,
) -> None:
    """From before the fault until it is subscribed again."""
    bridge = scene.bridge(dryapi, pusher_url=pusher_proxy.url, **settings)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together(_begun(3))
        await _published(bridge, load)
        last_read = await _last_read(scene, load)
        with trio.fail_after(15):
            # The proxy counts.
            while pusher_proxy.acknowledgements < acknowledgements:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert len(pusher_proxy.accepts) == 1
        assert len(bridge.logged("gap.opened")) == 1

        async with fault(bridge, pusher_proxy):
            begun = time.time()
            await _miss(scene)
            emitted = time.time()
        await _closed(bridge, 2)
        await load.run_together([job(2)])
    await _published(bridge, load)
    ending = await scene.end(gaps=["first_start", cause])
    gap = ending.gaps[-1]
    assert (gap.close_code, gap.jobs_in_flight) == (None, 3)
    assert gap.contains(begun, emitted)
    # Pongs prove nothing for a subscription that is lost behind them.
    assert fault is _unsubscribed or _begins_near(gap, last_read)


@pytest.mark.slow
async def test_gaps_of_a_time_without_kafka_are_reported_later_in_order(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, pusher_proxy: PusherProxy
) -> None:
    """What opens and closes while Kafka hangs is on the topic when it is back."""
    bridge = scene.bridge(dryapi, pusher_url=pusher_proxy.url)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.pause()
        for count in (2, 3, 4):
            pusher_proxy.cut()
            await _closed(bridge, count)
            await load.run_together([job(2)])
        own_kafka.resume()
    await _published(bridge, load)
    # Within seconds, and yet each is reported.
    assert len(bridge.logged("gap.opened")) == 4
    ending = await scene.end(gaps=_DISCONNECTED_THRICE)
    for gap, later in pairwise(ending.gaps):
        assert gap.until is not None
        assert gap.until <= later.since
