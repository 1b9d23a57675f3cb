"""Client, answers and budget together, against the sandbox's status endpoint."""

from __future__ import annotations

import json
from collections import Counter

import httpx  # noqa: TID251 - carries requests to an application without a port
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.events.job_status import Change
from bridge.events.parsing import parse
from bridge.reconciliation.answers import event_of
from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.client import Outcome, StatusClient
from bridge.sandbox import SandboxConfig, Statistics, application
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import Plan
from bridge.sandbox.dryapi import DryApi
from bridge.sandbox.jobs import JobBook, JobRequest
from bridge.sandbox.publisher import ChannelPublisher
from bridge.sandbox.simulation import Simulation
from bridge.settings import Secret
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
            transport=httpx.ASGITransport(application.build(self.dryapi.routes())),
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


async def test_an_incident_is_waited_out(autojump_clock: MockClock) -> None:
    """5xx cost time and no calls."""
    sandbox = _Sandbox("basic")
    sandbox.dryapi.faults.fail(300, 1, 500)
    async with sandbox.client:
        outcomes = await sandbox.ask(40)
        assert outcomes["failed"] + outcomes["not_found"] == 40
        assert 5 <= outcomes["failed"] <= 20
        assert sandbox.budget.spent().calls == outcomes["not_found"]


async def test_an_answer_becomes_a_record(autojump_clock: MockClock) -> None:
    """On each stage of a job: what the intake takes conforms."""
    sandbox = _Sandbox("premium")
    seen: list[tuple[str, str | None]] = []
    async with trio.open_nursery() as nursery, sandbox.client:
        nursery.start_soon(sandbox.simulation.run)
        await wait_all_tasks_blocked()
        wanted = JobRequest(steps=2, interval_seconds=10, fail=False)
        job = sandbox.simulation.start_requested(wanted)
        for seconds in (5, 10, 10, 20):
            await trio.sleep(seconds)
            answer = await sandbox.client.ask(job.request_id)
            assert answer.outcome is Outcome.ANSWERED
            told = event_of(job.request_id, answer.body)
            progress = None
            if told.event is not None:
                status = parse(told.event.decode())
                assert status.normalized == (Change.PROGRESS_NUMBER,)
                assert not status.has_preview
                progress = status.progress
                url = json.loads(status.value)["result_url"]
                assert (url is not None) == (told.status == "done")
            seen.append((told.status, progress))
        nursery.cancel_scope.cancel()
    assert [status for status, _ in seen] == [
        "pending",
        "processing",
        "processing",
        "done",
    ]
    assert seen[0][1] is None
    assert seen[1][1] == "0.00"
    assert seen[3][1] == "100.00"
