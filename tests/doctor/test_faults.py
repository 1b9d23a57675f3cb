"""Each fault is told by the step that meets it, and by no other one."""

from __future__ import annotations

import pytest

from bridge.doctor import Outcome
from tests.doctor.faults import FAULTS
from tests.doctor.ground import CANARY, Ground, remarkable


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


def test_there_are_faults_enough() -> None:
    """The table has what a platform team would try."""
    assert len(FAULTS) >= 30


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_named(ground: Ground, name: str) -> None:
    """Its step has words for it and a remedy; what doesn't depend on it is ok."""
    fault = FAULTS[name]
    report = await ground.check(fault.make(ground))
    told = list(remarkable(report))
    assert {(line.step, line.outcome) for line in told} == {(fault.step, fault.outcome)}
    for line in told:
        assert line.remedy
    text = " ".join(f"{line.detail} {line.remedy}" for line in told)
    for word in fault.words:
        assert word in text
    assert report.exit_code is fault.exit_code
    for line in report.lines:
        assert "canary" not in f"{line.subject} {line.detail} {line.remedy}"
        if line.outcome is Outcome.SKIPPED:
            assert line.detail.startswith(("needs " + fault.step, "needs the topic"))


def test_the_canary_is_a_secret() -> None:
    """What must not be seen above is what the bridge signs in with."""
    assert CANARY.startswith("canary")
