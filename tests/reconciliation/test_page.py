"""The figures of docs/healing.md are what the budget allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
import trio
from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.limits import read_limits
from bridge.reconciliation.reconciler import LISTEN_SECONDS
from trio.testing import MockClock

from bridge.sandbox.api import RateLimiter
from bridge.settings import ReconciliationSettings
from tests.reconciliation.limited import now_us


_PAGE = Path(__file__).parents[2] / "docs" / "healing.md"

_Plan = Literal["basic", "premium"]

# As the columns stand.
_PLANS: tuple[_Plan, ...] = ("basic", "premium")

_LATENCY_SECONDS = 0.05

# Beyond full minutes: listening, and a minute's calls.
_SECONDS = 20.0


def _rows(head: str) -> list[list[str]]:
    """Give the cells of the table whose head begins so."""
    text = _PAGE.read_text(encoding="utf-8")
    (table,) = re.findall(
        rf"^\| {re.escape(head)} \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    lines = table.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _numbers(text: str) -> list[int]:
    return [int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", text)]


async def _calls(
    plan: _Plan, jobs: int, purpose: Purpose = Purpose.GAP, reserve: int | None = None
) -> list[float]:
    """Make a day's calls about so many jobs, and give when each was answered."""
    if reserve is None:
        reserve = ReconciliationSettings().reserve_percent
    budget = Budget(reserve_percent=reserve, now_us=now_us)
    limiter = RateLimiter(plan)
    began = trio.current_time()
    answered: list[float] = []

    async def call() -> None:
        await trio.sleep(_LATENCY_SECONDS)
        allowance = limiter.take()
        assert allowance.allowed
        headers = {name.lower(): value for name, value in allowance.headers.items()}
        limits = read_limits(200, headers, datetime.now(UTC))
        budget.learn(limits, failed=False)
        answered.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            if not await budget.acquire(purpose):
                break
            nursery.start_soon(call)
    return answered


def _told(jobs: int, answered: list[float]) -> str:
    """Say it as the page does."""
    took = LISTEN_SECONDS + answered[-1]
    minutes = int(took // 60)
    assert took - minutes * 60 < _SECONDS
    when = f"{minutes} minutes" if minutes else "seconds"
    unknown = jobs - len(answered)
    if unknown:
        return f"{len(answered)} of them in {when}, {unknown:,} stay unknown"
    return when


@pytest.mark.parametrize(
    "row", _rows("jobs in flight at a gap"), ids=lambda row: row[0]
)
async def test_how_long_a_gap_takes(autojump_clock: MockClock, row: list[str]) -> None:
    """Each row says how long it takes to ask about its jobs, and how many are left."""
    (jobs,) = _numbers(row[0])
    for plan, cell in zip(_PLANS, row[1:], strict=True):
        assert cell == _told(jobs, await _calls(plan, jobs))


def _in_a_minute(answered: Iterable[float]) -> int:
    return sum(at < 60 for at in answered)


async def test_shares(autojump_clock: MockClock) -> None:
    """What a minute and a day leave to the bridge, and to silent jobs, stands there."""
    table = {row[0]: row[1:] for row in _rows("calls")}
    for purpose, name in ((Purpose.GAP, "gaps"), (Purpose.SILENT, "silent jobs")):
        basic = await _calls("basic", 1000, purpose)
        premium = await _calls("premium", 250, purpose)
        assert table[name] == [
            f"{_in_a_minute(basic)} a minute, {len(basic)} a day",
            f"{_in_a_minute(premium)} a minute",
        ]
    basic = await _calls("basic", 1000, reserve=0)
    premium = await _calls("premium", 350, reserve=0)
    assert table["gaps, with a reserve of 0"] == [
        f"{_in_a_minute(basic)} a minute, {len(basic)} a day",
        f"{_in_a_minute(premium)} a minute",
    ]
