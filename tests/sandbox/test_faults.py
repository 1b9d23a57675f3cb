"""How long faults last, and how many calls they meet, under trio's clock."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from bridge.sandbox.faults import SocketFaults, StatusFaults


async def test_a_refusal_ends_by_itself(autojump_clock: MockClock) -> None:
    """New connections are turned away for the seconds that were given, no longer."""
    faults = SocketFaults()
    assert faults.refusal() is None
    faults.refuse(30, "reset")
    await trio.sleep(29.9)
    assert faults.refusal() == "reset"
    await trio.sleep(0.2)
    assert faults.refusal() is None
    faults.refuse(30, "http")
    faults.refuse(0, "http")
    assert faults.refusal() is None


async def test_a_broken_status_endpoint_heals(autojump_clock: MockClock) -> None:
    """It fails with the code that was given, for the seconds that were given."""
    faults = StatusFaults(1)
    assert faults.code() is None
    faults.fail(60, 1, 502)
    await trio.sleep(59.9)
    assert {faults.code() for _ in range(100)} == {502}
    await trio.sleep(0.2)
    assert {faults.code() for _ in range(100)} == {None}


async def test_a_share_of_the_calls_fails(autojump_clock: MockClock) -> None:
    """About as many as were asked for, the same ones for the same seed."""
    answers = []
    for _ in range(2):
        faults = StatusFaults(7)
        faults.fail(60, 0.3, 503)
        answers.append([faults.code() for _ in range(2_000)])
    assert answers[0] == answers[1]
    assert answers[0].count(503) == pytest.approx(600, abs=80)
    assert answers[0].count(None) == 2_000 - answers[0].count(503)
