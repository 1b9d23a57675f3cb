"""The health port of a process whose other ends are both away."""

from __future__ import annotations

from tests.e2e.scene import Scene
from tests.kit.process import free_ports


async def test_nothing_remote_is_needed_to_be_alive(scene: Scene) -> None:
    """Without Kafka and dryAPI it is alive, not ready, and says of both why."""
    api, kafka, soketi = free_ports(3)
    bridge = scene.bridge(
        f"http://127.0.0.1:{api}",
        kafka_bootstrap_servers=f"127.0.0.1:{kafka}",
        pusher_url=f"ws://127.0.0.1:{soketi}",
    )
    bridge.start()
    told = await bridge.wait_answer(
        "/readyz", lambda now: "KafkaUnreachable" in str(now.body["reasons"])
    )
    assert told.status == 503
    subscribed, reached = told.body["reasons"]
    assert subscribed == "subscribed: 0 of 1 accounts subscribed"
    assert reached.startswith("kafka-reached: not yet: ")
    account = told.check(f"account:{scene.account.client_id}")
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
    assert metrics.total("bridge_connects_total", outcome="unreachable") > 0
    # It isn't refused: nobody was there to do so.
    assert metrics.total("bridge_account_refused") == 0
    bridge.kill()
