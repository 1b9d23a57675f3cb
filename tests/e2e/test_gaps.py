"""Each time in which an event may have been missed is a gap, and no other time is."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.e2e.gap_records import Gap, bounds_of, gaps_of, now, read_at
from tests.e2e.jobs import Load, job
from tests.e2e.line import open_line
from tests.e2e.scene import Scene
from tests.e2e.topic_records import by_key, check_exactly
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.kafka import KafkaServer


# Liveness within two seconds instead of forty.
_ALERT: dict[str, Any] = {
    "pusher_activity_timeout_seconds": 1,
    "pusher_pong_timeout_seconds": 1,
}

# A subscription is probed at once where jobs are known to run, and nothing comes.
_WATCHFUL: dict[str, Any] = {
    **_ALERT,
    "pusher_subscribe_timeout_seconds": 1,
    "pusher_probe_silence_seconds": 0.5,
}

# From one ping to the next while events come: a gap may begin so much too early.
_PROOF = timedelta(seconds=2)

# From soketi to the bridge: some milliseconds, if the machine has time for it.
_TRIP = timedelta(seconds=0.5)
_PROVED = timedelta(seconds=0.5)

# soketi ends a connection on which it has sent nothing for so long.
_SOKETI_IDLE_SECONDS = 120.0


async def _gaps(scene: Scene, count: int) -> list[Gap]:
    """Read the gaps of a bridge that has ended: so many, each opened and closed."""
    gaps = gaps_of(await scene.gaps(2 * count))
    assert [gap.client_id for gap in gaps] == [scene.account.client_id] * count
    assert all(gap.until is not None for gap in gaps)
    return gaps


async def _gap_after_the_first_start(scene: Scene) -> Gap:
    first, gap = await _gaps(scene, 2)
    assert first.cause == "first_start"
    return gap


async def _published(bridge: BridgeProcess, load: Load) -> None:
    await bridge.wait_metrics(
        lambda now: now.published == load.count and now.waiting == 0
    )


def _check_told(bridge: BridgeProcess, metrics: Metrics) -> None:
    """The gap of its start is told in one pair of log lines, and counted once."""
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


async def _last_read(scene: Scene, load: Load) -> datetime:
    return max(map(read_at, await scene.records(load.count)))


def _begins_near(gap: Gap, last_read: datetime) -> bool:
    """Tell whether it begins at the last ping that may be expected to be answered."""
    assert gap.since is not None
    return gap.since >= last_read - _PROOF - _TRIP


def _begun(count: int) -> Sequence[tuple[str, list[str]]]:
    """Make jobs whose end doesn't come."""
    jobs = [job(2) for _ in range(count)]
    return [(request_id, texts[:-1]) for request_id, texts in jobs]


@pytest.mark.parametrize(
    ("how", "cause"), [(signal.SIGTERM, "stopped"), (signal.SIGKILL, "crashed")]
)
async def test_the_time_without_a_bridge_is_a_gap_and_so_is_that_before_the_first(
    scene: Scene, dryapi: str, how: signal.Signals, cause: str
) -> None:
    """From its last event or proof to the next start; of the first nobody knows."""
    bridge = scene.bridge(dryapi)
    before = now()
    await bridge.start_and_wait()
    after = now()
    _check_told(bridge, await bridge.metrics())
    async with scene.load() as load:
        await load.run_together([job(2) for _ in range(10)])
        await load.run_together(_begun(4))
        await _published(bridge, load)
        last_read = await _last_read(scene, load)
        bridge.send(how)
        await bridge.wait_exit()
        ended = now()
        async with scene.load() as missed:
            await missed.run_together([job(2)])
        emitted = now()

        await bridge.start_and_wait()
        _check_told(bridge, await bridge.metrics())
        await load.run_together([job(2) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.waiting == 0 and now.read == 40)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    first, gap = await _gaps(scene, 2)
    assert (first.cause, first.since, first.close_code) == ("first_start", None, None)
    assert first.until is not None
    assert before < first.until < after
    assert not first.jobs_in_flight
    assert (gap.cause, gap.close_code, gap.jobs_in_flight) == (cause, None, 4)
    assert gap.covers(ended, emitted)
    # A crash takes what was proved in its last moments.
    assert _begins_near(gap, last_read if cause == "stopped" else last_read - _PROVED)


async def test_a_gap_outlives_the_bridges_that_it_meets(
    scene: Scene, dryapi: str
) -> None:
    """Killed or stopped while one is open, the next bridge closes it, opening none."""
    async with open_line(scene.soketi) as line:
        line.break_off()
        bridge = scene.bridge(dryapi, pusher_url=line.url)
        bridge.start()
        # What is in Kafka was in the outbox before.
        told = len(bounds_of(await scene.gaps(1)))
        for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            bridge.send(end)
            await bridge.wait_exit()
            line.resume()
            await bridge.start_and_wait()
            assert bridge.logged("gap.opened") == []
            assert (await bridge.metrics()).total("bridge_gap_open") == 0
            line.break_off()
            told = len(bounds_of(await scene.gaps(told + 2)))
        line.resume()
        await bridge.wait_ready()
        assert await bridge.stop() == 0
    causes = [gap.cause for gap in await _gaps(scene, 4)]
    assert causes == ["first_start", "disconnected", "disconnected", "disconnected"]


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
        metrics = await bridge.metrics()
        assert metrics.total("bridge_connects_total") == 1
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    (gap,) = await _gaps(scene, 1)
    assert gap.cause == "first_start"


async def test_a_connection_lost_while_the_process_stood_still_is_a_suspension(
    scene: Scene, dryapi: str
) -> None:
    """From before it stood still until it is subscribed again."""
    async with open_line(scene.soketi) as line, scene.load() as load:
        bridge = scene.bridge(dryapi, pusher_url=line.url)
        await bridge.start_and_wait()
        await load.run_together(_begun(3))
        await _published(bridge, load)
        last_read = await _last_read(scene, load)
        bridge.send(signal.SIGSTOP)
        stopped = now()
        line.cut()
        async with scene.load() as missed:
            await missed.run_together([job(2)])
        await trio.sleep(1.5)
        bridge.send(signal.SIGCONT)
        continued = now()
        await _closed(bridge, 2)
        await load.run_together([job(2)])
        await _published(bridge, load)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    gap = await _gap_after_the_first_start(scene)
    assert (gap.cause, gap.close_code, gap.jobs_in_flight) == ("suspended", None, 3)
    assert gap.covers(stopped, continued)
    assert _begins_near(gap, last_read)


async def test_a_connection_through_which_nothing_comes_is_deaf(
    scene: Scene, dryapi: str
) -> None:
    """No pong comes, so it is given up; once there is a way again, it is back."""
    async with open_line(scene.soketi) as line, scene.load() as load:
        bridge = scene.bridge(dryapi, pusher_url=line.url, **_ALERT)
        await bridge.start_and_wait()
        await load.run_together(_begun(2))
        await _published(bridge, load)
        last_read = await _last_read(scene, load)
        line.hang()
        hung = now()
        async with scene.load() as missed:
            await missed.run_together([job(2)])
        # An interval and a pong's time: what else is found takes longer.
        await bridge.wait_metrics(lambda now: now.total("bridge_gap_open") == 1, 5)
        lifted = now()
        line.cut()
        line.resume()
        await _closed(bridge, 2)
        await load.run_together([job(2)])
        await _published(bridge, load)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    gap = await _gap_after_the_first_start(scene)
    assert (gap.cause, gap.close_code, gap.jobs_in_flight) == ("deaf", None, 2)
    assert gap.covers(hung, lifted)
    assert _begins_near(gap, last_read)


async def test_silence_is_no_gap_and_a_subscription_lost_behind_pongs_is(
    scene: Scene, dryapi: str
) -> None:
    """With a job in flight silence is probed: without an answer it is deafness."""
    async with open_line(scene.soketi) as line, scene.load() as load:
        bridge = scene.bridge(dryapi, pusher_url=line.url, **_WATCHFUL)
        await bridge.start_and_wait()
        await load.run_together(_begun(2))
        await _published(bridge, load)
        # The first probe, by which a session learns whether its server answers any,
        # comes after 5 s; then silence has its own.
        with trio.fail_after(15):
            while line.acknowledgements < 3:  # noqa: ASYNC110 - a counter of the line's
                await trio.sleep(0.05)
        assert line.connects == 1
        assert len(bridge.logged("gap.opened")) == 1

        line.deafen()
        deafened = now()
        async with scene.load() as missed:
            await missed.run_together([job(2)])
        emitted = now()
        await _closed(bridge, 2)
        await load.run_together([job(2)])
        await _published(bridge, load)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    gap = await _gap_after_the_first_start(scene)
    assert (gap.cause, gap.close_code, gap.jobs_in_flight) == ("deaf", None, 2)
    # Pongs came all the time, and prove nothing here.
    assert gap.covers(deafened, emitted)


async def test_gaps_of_a_time_without_kafka_are_told_later_in_order(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """What opens and closes while Kafka hangs stands on the topic when it is back."""
    async with open_line(scene.soketi) as line, scene.load() as load:
        bridge = scene.bridge(dryapi, pusher_url=line.url)
        await bridge.start_and_wait()
        own_kafka.pause()
        for count in (2, 3, 4):
            line.cut()
            await _closed(bridge, count)
            await load.run_together([job(2)])
        own_kafka.resume()
        await _published(bridge, load)
        # Within seconds, and yet each is told.
        assert len(bridge.logged("gap.opened")) == 4
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    gaps = await _gaps(scene, 4)
    causes = [gap.cause for gap in gaps]
    assert causes == ["first_start", "disconnected", "disconnected", "disconnected"]
    for gap, later in pairwise(gaps):
        assert gap.until is not None
        assert later.since is not None
        assert gap.until <= later.since


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_quiet_while_longer_than_soketis_patience_is_no_gap(
    scene: Scene, dryapi: str
) -> None:
    """With default settings, a job in flight and nothing to hear: one connection."""
    async with open_line(scene.soketi) as line, scene.load() as load:
        bridge = scene.bridge(dryapi, pusher_url=line.url)
        await bridge.start_and_wait()
        await load.run_together(_begun(1))
        await trio.sleep(_SOKETI_IDLE_SECONDS + 20)
        assert line.connects == 1
        await load.run_together([job(2)])
        await _published(bridge, load)
        assert await bridge.stop() == 0
        check_exactly(await scene.records(load.count), load.accepted)
    (gap,) = await _gaps(scene, 1)
    assert gap.cause == "first_start"


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_process_that_stood_still_until_soketi_lost_patience_was_suspended(
    scene: Scene, dryapi: str
) -> None:
    """After 120 s soketi has closed the connection; until then it may have written."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together(_begun(1))
        await _published(bridge, load)
        bridge.send(signal.SIGSTOP)
        stopped = now()
        await trio.sleep(_SOKETI_IDLE_SECONDS + 5)
        async with scene.load() as missed:
            await missed.run_together([job(2)])
        bridge.send(signal.SIGCONT)
        continued = now()
        await _closed(bridge, 2)
        await load.run_together([job(2)])
        await _published(bridge, load)
        assert await bridge.stop() == 0
        found = by_key(await scene.records(load.count))
        assert found.keys() == load.accepted.keys()
    gap = await _gap_after_the_first_start(scene)
    assert (gap.cause, gap.jobs_in_flight) == ("suspended", 1)
    assert gap.covers(stopped, continued)
