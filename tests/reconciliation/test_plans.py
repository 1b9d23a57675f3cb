"""Gaps under dryAPI's limits: the real budget and client, against an API that has them.

The sandbox's limits, which are dryAPI's as documented, stand behind an HTTP transport
in memory; only the network is missing. How long it takes is computed from the limits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import httpx  # noqa: TID251 - the tests are the server
import msgspec
import pytest
import trio
from trio.testing import MockClock

from bridge.reconciliation.budget import Budget, Purpose
from bridge.reconciliation.client import Outcome, StatusClient
from bridge.reconciliation.reconciler import LISTEN_SECONDS
from bridge.sandbox.config import Plan
from bridge.sandbox.limits import RateLimiter
from bridge.settings import ReconciliationSettings, Secret
from tests.reconciliation.world import World, now_us


pytestmark = pytest.mark.usefixtures("threads_at_once")

PER_MINUTE = {"basic": 50, "premium": 300}
PER_DAY = 200
RESERVE = ReconciliationSettings().reserve_percent

# What an answer takes, and what a minute's calls take, with some of them under way.
LATENCY_SECONDS = 0.05
BURST_SECONDS = LISTEN_SECONDS + 10.0


def share(limit: int) -> int:
    """Give what a reserve leaves of a limit."""
    return limit * (100 - RESERVE) // 100


def minutes(calls: int, plan: Plan) -> int:
    """Give how many minutes' shares so many calls take."""
    return math.ceil(calls / share(PER_MINUTE[plan]))


class Api:
    """The status endpoint behind the limits of a plan."""

    def __init__(self, plan: Plan, ended: Iterable[str]) -> None:
        self._limiter = RateLimiter(plan)
        self.ended = set(ended)
        self.asked: list[str] = []
        self.answers: Counter[int] = Counter()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as dryAPI does."""
        await trio.sleep(LATENCY_SECONDS)
        response = self._answer(request.url.path.rsplit("/", 1)[-1])
        self.answers[response.status_code] += 1
        return response

    def _answer(self, request_id: str) -> httpx.Response:
        allowance = self._limiter.take()
        if not allowance.allowed:
            return _response(429, allowance.headers)
        self.asked.append(request_id)
        data = {"status": "processing", "progress": 50.0, "preview": "https://p/1"}
        if request_id in self.ended:
            data |= {"status": "done", "progress": 100.0, "result_url": "https://r/1"}
        return _response(200, allowance.headers, {"data": data})

    async def be_used_up(self, until: float) -> None:
        """Let the user's own programs take every call there is."""
        while trio.current_time() < until:
            while self._limiter.take().allowed:
                pass
            await trio.sleep(0.2)


def _response(
    status: int, headers: dict[str, str] | None = None, body: object = None
) -> httpx.Response:
    # A stream, as from a network: what is given as content is read already.
    stream = httpx.ByteStream(msgspec.json.encode(body))
    return httpx.Response(status, headers=headers, stream=stream)


@asynccontextmanager
async def running(api: Api, jobs: Iterable[str]) -> AsyncIterator[World]:
    """Run a reconciler that asks this API about these jobs in flight."""
    budget = Budget(reserve_percent=RESERVE, now_us=now_us)
    client = StatusClient(
        "https://api.dryapi.dev",
        Secret("token"),
        timeout_seconds=10,
        transport=httpx.MockTransport(api.answer),
    )
    world = World(listen_seconds=LISTEN_SECONDS, client=client, budget=budget)
    for number, name in enumerate(jobs):
        progress = f"{99 - number * 0.05:.2f}"
        world.outbox.hear("42", name, "in_progress", progress, now_us() - 5_000_000)
    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(world.reconciler.run)
        yield world
        nursery.cancel_scope.cancel()


async def settled_at(world: World, gap_id: str, *, within: float) -> float:
    """Wait until a gap is settled, and give when."""
    with trio.fail_after(within):
        while gap_id not in world.ledger.unknown:  # noqa: ASYNC110 - time jumps
            await trio.sleep(0.5)
    return next(s.at for s in world.ledger.settled if s.gap_id == gap_id)


async def test_basic_heals_what_the_day_allows(autojump_clock: MockClock) -> None:
    """Of 400 jobs the 150 likeliest are healed minute by minute, 250 are unknown."""
    jobs = [f"job-{number:03}" for number in range(400)]
    api = Api("basic", jobs)
    calls = share(PER_DAY)
    async with running(api, jobs) as world:
        gap_id = world.close_gap()
        took = await settled_at(world, gap_id, within=3600)
    assert (calls, len(jobs) - calls) == (150, 250)
    assert sorted(api.asked) == jobs[:calls]
    assert world.outbox.ended == set(jobs[:calls])
    assert world.ledger.unknown == {gap_id: len(jobs) - calls}
    assert world.ledger.healed_jobs == {gap_id: calls}
    least = LISTEN_SECONDS + (minutes(calls, "basic") - 1) * 60
    assert least <= took <= least + 10
    assert api.answers == {200: calls}


async def test_basic_finds_unknown_jobs_as_silent_ones(
    autojump_clock: MockClock,
) -> None:
    """On the next day a quarter of its calls corrects the gap; no more are made."""
    jobs = [f"job-{number:03}" for number in range(300)]
    api = Api("basic", jobs)
    calls = share(PER_DAY)
    async with running(api, jobs) as world:
        gap_id = world.close_gap()
        await settled_at(world, gap_id, within=3600)
        await trio.sleep(86_400 - 1800)
        assert len(api.asked) == calls
        # As the outbox forgets jobs in a day, these must have been heard of in time.
        left = len(jobs) - calls
        assert world.ledger.unknown == {gap_id: left}
        await trio.sleep(3600)
        silent = calls // 4
        assert len(api.asked) == calls + silent
        assert world.ledger.healed_jobs == {gap_id: calls + silent}
    assert api.answers == {200: calls + silent}


@pytest.mark.parametrize("count", [225, 1000])
async def test_premium_heals_all_within_minutes(
    autojump_clock: MockClock, count: int
) -> None:
    """A thousand jobs take five minutes' calls, 225 of them seconds."""
    jobs = [f"job-{number:04}" for number in range(count)]
    api = Api("premium", jobs)
    async with running(api, jobs) as world:
        gap_id = world.close_gap()
        took = await settled_at(world, gap_id, within=3600)
    assert world.outbox.ended == set(jobs)
    assert world.ledger.unknown == {gap_id: 0}
    # Each once: nothing was refused, and nothing asked about again.
    assert Counter(api.asked) == dict.fromkeys(jobs, 1)
    assert api.answers == {200: count}
    least = LISTEN_SECONDS + (minutes(count, "premium") - 1) * 60
    assert least <= took <= least + 10
    assert took < math.ceil(count / 225) * 60


async def test_storm_of_other_calls_is_waited_out(autojump_clock: MockClock) -> None:
    """While the user's programs take all calls, the bridge gets 429 now and then."""
    jobs = [f"job-{number:03}" for number in range(100)]
    api = Api("premium", jobs)
    async with running(api, jobs) as world, trio.open_nursery() as nursery:
        nursery.start_soon(api.be_used_up, 600.0)
        await trio.sleep(1)
        gap_id = world.close_gap()
        await trio.sleep(595)
        assert world.ledger.settled == []
        refused = api.answers[429]
        took = await settled_at(world, gap_id, within=3600)
    assert world.outbox.ended == set(jobs)
    assert world.ledger.unknown == {gap_id: 0}
    assert took - 600 <= 60 + BURST_SECONDS
    # A minute brings a refusal, or a call that was quicker than they, and a refusal.
    assert refused <= 2 * 600 / 60
    limited = world.reconciler.statistics.requests["42", Outcome.LIMITED]
    assert limited == api.answers[429] > 0


async def test_silent_jobs_get_a_quarter(autojump_clock: MockClock) -> None:
    """A thousand of them leave the rest of each minute to gaps."""
    jobs = [f"job-{number:04}" for number in range(1000)]
    api = Api("premium", [])
    async with running(api, jobs) as world:
        silent_after = world.settings.silent_after_seconds
        # The first answer tells that this is no Basic account.
        await trio.sleep(silent_after + 60)
        begun = len(api.asked)
        await trio.sleep(300)
        assert len(api.asked) - begun <= 5 * share(300) // 4 + share(300) // 4
        assert len(api.asked) - begun >= 3 * share(300) // 4
        before = len(api.asked)
        at_us = now_us() - 1_000_000
        world.outbox.hear("42", "urgent", "in_progress", "99.99", at_us)
        world.close_gap()
        await trio.sleep(LISTEN_SECONDS + 5)
        assert "urgent" in api.asked[before:]
        assert world.reconciler.statistics.waiting["42", Purpose.GAP] > 0
    assert set(api.answers) == {200}
