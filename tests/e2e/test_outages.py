"""Outages around a running bridge: Kafka goes and comes back, soketi restarts."""

from __future__ import annotations

import time

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.dryapi import DryApi
from tests.kit.kafka import KafkaServer
from tests.kit.process import free_ports
from tests.kit.soketi import SoketiServer


# Longer than a broker's session and than health's limit for a silent thread.
_STANDSTILL_SECONDS = 30.0

# That it is silent, that it works again, and what aiokafka says once.
_LINES_OF_A_STANDSTILL = 8


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=pytest.mark.slow)])
async def test_events_are_read_while_kafka_is_away_and_arrive_when_it_is_back(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, how: str
) -> None:
    """The bridge stays alive and ready, says that Kafka is away, and loses nothing."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load(steady=True) as load:
        await bridge.wait_metrics(lambda now: now.published >= 100)
        await trio.to_thread.run_sync(getattr(own_kafka, how))
        away = await bridge.metrics()
        during = await bridge.wait_metrics(lambda now: now.read >= away.read + 500)
        assert during.waiting > 0
        ready = await bridge.wait_answer(
            "/readyz", lambda now: not now.check("kafka-now")["ok"]
        )
        assert ready.status == 200
        assert ready.check("kafka-reached")["ok"]
        assert ready.check("outbox-accepting")["ok"]
        live = await bridge.ask("/livez")
        assert live is not None
        assert live.status == 200

        await trio.to_thread.run_sync(own_kafka.start)
        await load.stop()
    # A batch that was on its way is abandoned only after its time.
    after = await bridge.wait_metrics(
        lambda now: now.read == load.count and now.waiting == 0
    )
    assert after.total("bridge_events_dropped_total") == 0
    await bridge.wait_answer("/readyz", lambda now: bool(now.check("kafka-now")["ok"]))
    await scene.end()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_broker_that_stands_still_for_half_a_minute_costs_nothing(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """The session stays up, the log stays short, and all arrives once and in order."""
    bridge = scene.bridge(dryapi)
    await bridge.start_and_wait()
    async with scene.load(steady=True) as load:
        await bridge.wait_metrics(lambda now: now.published >= 100)
        lines = len(bridge.all_output.splitlines())
        own_kafka.pause()
        await trio.sleep(_STANDSTILL_SECONDS)
        own_kafka.resume()
        await bridge.wait_logged("kafka.recovered")
        assert len(bridge.all_output.splitlines()) - lines <= _LINES_OF_A_STANDSTILL
        await load.stop()
    after = await bridge.wait_metrics(
        lambda now: now.read == load.count and now.waiting == 0
    )
    assert after.total("bridge_connects_total", outcome="subscribed") == 1
    assert after.total("bridge_events_dropped_total") == 0
    await scene.end()


@pytest.mark.parametrize("how", ["stop", pytest.param("kill", marks=pytest.mark.slow)])
async def test_a_restarted_soketi_is_subscribed_again_with_a_new_signature(
    scene: Scene, api: DryApi, own_soketi: SoketiServer, how: str
) -> None:
    """Events flow again, authorized for the new socket; the time between is a gap."""
    code = 4200 if how == "stop" else None
    bridge = scene.bridge(api.url)
    await bridge.start_and_wait()
    async with scene.load() as load:
        await load.run_together([job(10) for _ in range(10)])
        await bridge.wait_metrics(lambda now: now.read == load.count)

        await trio.to_thread.run_sync(getattr(own_soketi, how))
        away = time.time()
        lost = await bridge.wait_logged("session.lost")
        assert lost["code"] == code
        unready = await bridge.ask("/readyz")
        assert unready is not None
        assert unready.status == 503
        assert not unready.check("subscribed")["ok"]

        back = time.time()
        await trio.to_thread.run_sync(own_soketi.start)
        await bridge.wait_ready()
        await load.run_together([job(10) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.published == load.count)
    ending = await scene.end(gaps=["first_start", "disconnected"])
    gap = ending.gaps[-1]
    assert gap.close_code == code
    assert gap.contains(away, back)
    first, *_, last = api.authorizations
    assert first.socket_id != last.socket_id
    bearer = f"Bearer {scene.account.token}"
    assert {(each.channel, each.authorization) for each in api.authorizations} == {
        (scene.account.channel, bearer)
    }


async def test_nothing_remote_is_needed_to_be_alive(scene: Scene) -> None:
    """Without Kafka and dryAPI it is alive, not ready, and says of both why."""
    api, kafka, soketi = free_ports(3)
    bridge = scene.bridge(
        f"http://127.0.0.1:{api}",
        kafka_bootstrap_servers=f"127.0.0.1:{kafka}",
        pusher_url=f"ws://127.0.0.1:{soketi}",
    )
    bridge.start()
    unready = await bridge.wait_answer(
        "/readyz", lambda now: "KafkaUnreachable" in str(now.body["reasons"])
    )
    assert unready.status == 503
    subscribed, reached = unready.body["reasons"]
    assert subscribed == "subscribed: 0 of 1 accounts subscribed"
    assert reached.startswith("kafka-reached: not yet: ")
    account = unready.check(f"account:{scene.account.client_id}")
    # In a try, or between two.
    assert account["detail"] in {
        "connecting, no frame yet",
        "disconnected, no frame yet",
    }
    alive = await bridge.ask("/livez")
    assert alive is not None
    assert alive.status == 200
    assert all(check["ok"] for check in alive.body["checks"])
    metrics = await bridge.metrics()
    assert metrics.total("bridge_kafka_connected") == 0
    # With a new outbox nothing is read before Kafka was reached once.
    assert metrics.total("bridge_connects_total") == 0
    # It isn't refused: nothing was there to do so.
    assert metrics.total("bridge_account_refused") == 0
    # There is no broker that it could hand its gap to.
    bridge.kill()
    await scene.end(gaps=(), waiting=None)
