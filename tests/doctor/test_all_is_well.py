"""What is well is called so, and nothing is changed by looking."""

from __future__ import annotations

import pytest

from bridge.doctor import Outcome
from bridge.errors import ExitCode
from tests.doctor.ground import Ground, remarkable


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


async def test_a_bridge_that_would_work_has_nothing_remarkable(ground: Ground) -> None:
    """Each step was taken, and the code is 0."""
    report = await ground.check()
    assert list(remarkable(report)) == []
    assert {
        line.step for line in report.lines if line.outcome is Outcome.SKIPPED
    } == set()
    assert report.exit_code is ExitCode.CLEAN
