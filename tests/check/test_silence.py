"""All of it ends in time though nobody answers."""

from __future__ import annotations

import pytest

from bridge.check import Outcome
from tests.check.ground import Ground
from tests.check.holes import black_hole


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


async def test_all_of_it_ends_in_time_though_nobody_answers(ground: Ground) -> None:
    """What was not reached by then is skipped; nothing is left out."""
    port = ground.stack.enter_context(black_hole())
    everywhere = {
        "BRIDGE_PUSHER_URL": f"ws://127.0.0.1:{port}",
        "BRIDGE_API_URL": f"http://127.0.0.1:{port}",
        "BRIDGE_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{port}",
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
    }
    well = await ground.check()
    report = await ground.check(everywhere, seconds=1.0)
    assert {line.step for line in report.lines} == {
        *(line.step for line in well.lines),
        "schema_registry",
    }
    failed = {line.step for line in report.lines if line.outcome is Outcome.FAILURE}
    assert failed == {"pusher.tcp", "api.tcp", "kafka.tcp", "schema_registry"}
    for line in report.lines:
        if line.outcome is Outcome.FAILURE:
            assert "within" in line.detail
