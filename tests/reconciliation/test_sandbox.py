"""Client, answers and budget together, against the sandbox's status endpoint."""

from __future__ import annotations

from collections import Counter

import httpx  # noqa: TID251 - carries requests to an application without a port
import trio
from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.client import Outcome, StatusClient
from trio.testing import MockClock

from bridge.sandbox import SandboxConfig, Statistics
from bridge.sandbox.api import DryApi
from bridge.sandbox.config import Addresses, Plan
from bridge.sandbox.jobs import JobBook
from bridge.sandbox.sandbox import build_application
from bridge.sandbox.simulation import ChannelPublisher, Simulation
from bridge.sandbox.websocket import Channels
from bridge.settings import Secret
from tests.kit.played import played
from tests.reconciliation.limited import DAY_SECONDS, now_us
from tests.sandbox.test_simulation import PICTURES


class _Sandbox:
    """dryAPI without a port, and a client and a budget for it."""

    def __init__(self, plan: Plan) -> None:
        config = SandboxConfig(seed=3, rate=0, plan=plan)
        self.statistics = Statistics()
        addresses = Addresses("http://s", config.app)
        book = JobBook(config, PICTURES, addresses, self.statistics)
        publisher = ChannelPublisher(config.channel, Channels(), self.statistics)
        self.simulation = Simulation(config, book, publisher)
        self.dryapi = DryApi(
            config,
            book,
            self.simulation,
            PICTURES,
            addresses,
            statistics=self.statistics,
        )
        self.client = StatusClient(
            "http://s",
            Secret("sandbox-token"),
            timeout_seconds=10,
            transport=played(
                httpx.ASGITransport(build_application(self.dryapi.routes()))
            ),
        )
        self.budget = Budget(reserve_percent=25, now_us=now_us)

    async def ask(self, calls: int) -> Counter[str]:
        """Ask about a job so often, and count what came of it."""
        outcomes: Counter[str] = Counter()
        for _ in range(calls):
            if not await self.budget.acquire(Purpose.GAP):
                outcomes["spent"] += 1
                continue
            answer = await self.client.ask("unknown")
            failed = answer.outcome is Outcome.FAILED
            self.budget.learn(answer.limits, failed=failed)
            outcomes[answer.outcome] += 1
        return outcomes


async def test_the_limits_of_both_plans_are_kept(autojump_clock: MockClock) -> None:
    """No call is refused, and a day's budget is all that is used."""
    basic = _Sandbox("basic")
    async with basic.client:
        assert await basic.ask(160) == {"not_found": 150, "spent": 10}
        assert 240 <= trio.current_time() < 250
        await trio.sleep(DAY_SECONDS)
        assert await basic.ask(160) == {"not_found": 150, "spent": 10}
    assert basic.statistics.status_answers == {"404": 300}
    premium = _Sandbox("premium")
    async with premium.client:
        assert await premium.ask(1000) == {"not_found": 1000}
    assert premium.statistics.status_answers == {"404": 1000}
