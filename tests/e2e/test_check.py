"""`bridge check` beside a bridge that runs: it sees the same, and disturbs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess


# What a bridge logs of a socket, a partition or an id that another took from it.
_DISTURBANCES = (
    "session.lost",
    "session.failed",
    "partition.failed",
    "partitions.reopen",
    "kafka.unavailable",
    "transaction.failed",
    "transaction.fenced",
    "outbox.full",
)


async def looked(checker: BridgeProcess) -> dict[str, Any]:
    """Run it to its end and give its report."""
    checker.start()
    assert await checker.wait_exit() == 0, checker.all_output
    report: dict[str, Any] = json.loads(checker.all_output)
    return report


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("delivery", ["idempotent", "transactional"])
async def test_a_look_disturbs_no_bridge(
    scene: Scene, dryapi: str, delivery: str
) -> None:
    """Under load, with its outbox, account and transactional ids: no gap, no fence."""
    bridge = scene.bridge(dryapi, delivery=delivery)
    await bridge.start_and_wait()
    checkers = [
        scene.bridge(
            dryapi,
            delivery=delivery,
            outbox_dir=bridge.outbox,
            flags=["check", "--output=json"],
        )
        for _ in range(2)
    ]
    async with scene.load(steady=True) as load:
        for checker in checkers:
            report = await looked(checker)
            told = {one["step"]: one for one in report["checks"]}
            assert f"process {bridge.pid}," in told["outbox.directory"]["detail"]
            assert told["subscription"]["outcome"] == "ok"
            assert ("kafka.transactions" in told) is (delivery == "transactional")
        await load.stop()
    await scene.finish(bridge)
    await scene.end()
    for event in _DISTURBANCES:
        assert bridge.logged(event) == []
