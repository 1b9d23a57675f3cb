"""Outages around a running bridge: Kafka goes and comes back, soketi restarts."""

from __future__ import annotations

import pytest
import trio

from tests.e2e.auth_endpoint import AuthEndpoint, signing
from tests.e2e.gap_records import gaps_of, now
from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.e2e.topic_records import check_exactly
from tests.kit.bridge_process import Answer
from tests.kit.kafka import KafkaServer
from tests.kit.soketi import SoketiServer


# Longer than a broker's session and than health's patience with a thread.
_STANDSTILL_SECONDS = 30.0

# That it is silent, that it works again, and what aiokafka says once.
_LINES_OF_A_STANDSTILL = 8


def _kafka_is_away(answer: Answer) -> bool:
    return not answer.check("kafka-now")["ok"]


def _kafka_is_back(answer: Answer) -> bool:
    return bool(answer.check("kafka-now")["ok"])


@pytest.mark.parametrize("how", ["stop", "kill"])
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
        ready = await bridge.wait_answer("/readyz", _kafka_is_away)
        assert ready.status == 200
        assert ready.check("kafka-reached")["ok"]
        assert ready.check("outbox-accepting")["ok"]
        live = await bridge.ask("/livez")
        assert live is not None
        assert live.status == 200

        await trio.to_thread.run_sync(own_kafka.start)
        await load.stop()
        # A batch that was on its way is given up only after its time.
        after = await bridge.wait_metrics(
            lambda now: now.read == load.count and now.waiting == 0
        )
        assert after.total("bridge_events_dropped_total") == 0
        await bridge.wait_answer("/readyz", _kafka_is_back)
        check_exactly(await scene.records(load.count), load.accepted)
    assert await bridge.stop() == 0


@pytest.mark.long
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
        await bridge.wait_logged("kafka.works_again")
        assert len(bridge.all_output.splitlines()) - lines <= _LINES_OF_A_STANDSTILL
        await load.stop()
        after = await bridge.wait_metrics(
            lambda now: now.read == load.count and now.waiting == 0
        )
        assert after.total("bridge_connects_total", outcome="subscribed") == 1
        assert after.total("bridge_events_dropped_total") == 0
        check_exactly(await scene.records(load.count), load.accepted)
    assert await bridge.stop() == 0


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restarted_soketi_is_subscribed_again_with_a_new_signature(
    scene: Scene, own_soketi: SoketiServer, how: str
) -> None:
    """Events flow again, authorised for the new socket; the time between is a gap."""
    with AuthEndpoint(signing(own_soketi)).serving() as auth:
        bridge = scene.bridge(auth.url)
        await bridge.start_and_wait()
        async with scene.load() as load:
            await load.run_together([job(10) for _ in range(10)])
            await bridge.wait_metrics(lambda now: now.read == load.count)

            await trio.to_thread.run_sync(getattr(own_soketi, how))
            away = now()
            lost = await bridge.wait_logged("session.lost")
            code = 4200 if how == "stop" else None
            assert lost["code"] == code
            unready = await bridge.ask("/readyz")
            assert unready is not None
            assert unready.status == 503
            assert not unready.check("subscribed")["ok"]

            back = now()
            await trio.to_thread.run_sync(own_soketi.start)
            await bridge.wait_ready()
            await load.run_together([job(10) for _ in range(10)])
            await bridge.wait_metrics(lambda now: now.published == load.count)
            check_exactly(await scene.records(load.count), load.accepted)
        assert await bridge.stop() == 0
        _, gap = gaps_of(await scene.gaps(4))
        assert (gap.cause, gap.close_code) == ("disconnected", code)
        assert gap.covers(away, back)
        first, *_, last = [request.socket_id for request in auth.requests]
    assert first != last
    assert {request.channel for request in auth.requests} == {scene.account.channel}
    assert {request.authorization for request in auth.requests} == {
        f"Bearer {scene.account.token}"
    }
