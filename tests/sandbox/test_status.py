"""Each answer of the status endpoint against the reference, under trio's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bridge.sandbox import SandboxConfig, Statistics, application
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.channels import Channels
from bridge.sandbox.dryapi import DryApi
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest
from bridge.sandbox.publisher import ChannelPublisher
from bridge.sandbox.simulation import Simulation
from tests.sandbox.test_webhooks import PICTURES


_MEMBERS = [
    "status",
    "preview",
    "result_url",
    "results_alt_formats",
    "result",
    "progress",
]
_MINUTE = ["x-ratelimit-limit", "x-ratelimit-remaining"]
_DAY = ["x-ratelimit-daily-limit", "x-ratelimit-daily-remaining"]


class _Api:
    """dryAPI's interface without a port."""

    def __init__(self, client: httpx.AsyncClient, **options: Any) -> None:
        config = SandboxConfig(seed=3, rate=0, **options)
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
        self.client = client
        client._transport = httpx.ASGITransport(application.build(self.dryapi.routes()))

    async def ask(self, request_id: str = "unknown") -> httpx.Response:
        path = f"/api/v1/client/request-status/{request_id}"
        return await self.client.get(path)

    async def data(self, job: Job) -> dict[str, Any]:
        answer = await self.ask(job.request_id)
        assert answer.status_code == 200
        assert list(answer.json()) == ["data"]
        data: dict[str, Any] = answer.json()["data"]
        assert list(data) == _MEMBERS
        assert type(data["progress"]) is float
        assert data["result"] is None
        return data

    async def spend(self, count: int) -> None:
        """Make calls that are answered."""
        for _ in range(count):
            assert (await self.ask()).status_code == 404


@asynccontextmanager
async def _serving(**options: Any) -> AsyncIterator[_Api]:
    headers = {"Authorization": "Bearer sandbox-token", "Accept": "application/json"}
    async with (
        httpx.AsyncClient(base_url="http://s", headers=headers) as client,
        trio.open_nursery() as nursery,
    ):
        api = _Api(client, **options)
        nursery.start_soon(api.simulation.run)
        await wait_all_tasks_blocked()
        yield api
        nursery.cancel_scope.cancel()


def _limits(answer: httpx.Response) -> dict[str, str]:
    names = ("x-ratelimit", "retry-after")
    return {
        name: value for name, value in answer.headers.items() if name.startswith(names)
    }


def _check_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["data", "message", "errors", "statusCode"]
    assert body["statusCode"] == status
    assert body["message"]


async def test_a_job_on_its_whole_way(autojump_clock: MockClock) -> None:
    """Pending, processing with and without a preview's address, done."""
    async with _serving() as api:
        wanted = JobRequest(steps=2, interval_seconds=10, fail=False)
        job = api.simulation.start_requested(wanted)
        await trio.sleep(5)
        pending = await api.data(job)
        assert (pending["status"], pending["progress"]) == ("pending", 0.0)
        assert pending["preview"] is None
        await trio.sleep(10)
        begun = await api.data(job)
        assert (begun["status"], begun["progress"]) == ("processing", 0.0)
        assert begun["preview"] is None
        await trio.sleep(10)
        running = await api.data(job)
        assert running["status"] == "processing"
        assert 0 < running["progress"] < 100
        assert running["preview"] == f"http://s/previews/{job.request_id}.jpg"
        for data in (pending, begun, running):
            assert data["result_url"] is data["results_alt_formats"] is None
        await trio.sleep(20)
        done = await api.data(job)
        assert (done["status"], done["progress"]) == ("done", 100.0)
        assert done["preview"] is None
        assert done["result_url"].startswith(f"http://s/results/{job.request_id}.jpg?")
        assert list(done["results_alt_formats"]) == ["jpg", "webp"]


async def test_a_failed_job_is_an_error(autojump_clock: MockClock) -> None:
    """It keeps its progress, has neither preview nor result, and no reason."""
    async with _serving() as api:
        wanted = JobRequest(steps=9, interval_seconds=1, fail=False)
        job = api.simulation.start_requested(wanted)
        await trio.sleep(5.5)
        before = (await api.data(job))["progress"]
        assert await api.simulation.end(job, JobError("UNKNOWN_ERROR", "because"))
        failed = await api.data(job)
        assert (failed["status"], failed["progress"]) == ("error", before)
        assert failed["preview"] is failed["result_url"] is None
        assert failed["results_alt_formats"] is None


async def test_an_answer_tells_what_is_left(autojump_clock: MockClock) -> None:
    """Basic hears of minute and day, Premium of the minute; neither of a wait."""
    async with _serving(plan="basic") as api:
        job = api.simulation.start_requested(JobRequest())
        for answer, left in ((await api.ask(job.request_id), 1), (await api.ask(), 2)):
            assert list(_limits(answer)) == _MINUTE + _DAY
            assert list(_limits(answer).values()) == [
                "50",
                str(50 - left),
                "200",
                str(200 - left),
            ]
    async with _serving(plan="premium") as api:
        assert _limits(await api.ask()) == dict(
            zip(_MINUTE, ["300", "299"], strict=True)
        )


async def test_an_unknown_job_is_404(autojump_clock: MockClock) -> None:
    """It has dryAPI's error body, and counts as any other call."""
    async with _serving() as api:
        _check_error(await api.ask(), 404)
        assert (await api.ask()).headers["x-ratelimit-remaining"] == "48"
        assert api.statistics.status_answers == {"404": 2}


async def test_a_bad_token_is_401(autojump_clock: MockClock) -> None:
    """It costs nothing and hears nothing of the limits."""
    async with _serving() as api:
        for _ in range(60):
            path = "/api/v1/client/request-status/x"
            answer = await api.client.get(path, headers={"Authorization": "Bearer x"})
            _check_error(answer, 401)
            assert _limits(answer) == {}
        assert (await api.ask()).headers["x-ratelimit-remaining"] == "49"


async def test_a_spent_minute_is_429(autojump_clock: MockClock) -> None:
    """It says what kind of limit it is and how long to wait; then it goes on."""
    async with _serving(plan="basic") as api:
        await api.spend(50)
        await trio.sleep(20)
        answer = await api.ask()
        _check_error(answer, 429)
        assert _limits(answer) == {
            "retry-after": "40",
            "x-ratelimit-type": "minute",
            **dict(zip(_MINUTE, ["50", "0"], strict=True)),
            **dict(zip(_DAY, ["200", "150"], strict=True)),
        }
        await trio.sleep(40)
        await api.spend(50)
        assert api.statistics.status_answers == {"404": 100, "429": 1}


async def test_a_spent_day_is_429(autojump_clock: MockClock) -> None:
    """The wait is the rest of the day, however much the minute would allow."""
    async with _serving(plan="basic") as api:
        for _ in range(4):
            await api.spend(50)
            await trio.sleep(60)
        answer = await api.ask()
        _check_error(answer, 429)
        assert _limits(answer) == {
            "retry-after": str(86_400 - 240),
            "x-ratelimit-type": "daily",
            **dict(zip(_MINUTE, ["50", "50"], strict=True)),
            **dict(zip(_DAY, ["200", "0"], strict=True)),
        }
        await trio.sleep(86_400 - 240)
        await api.spend(1)


async def test_premium_has_a_minute_alone(autojump_clock: MockClock) -> None:
    """300 a minute, and no day that could be spent."""
    async with _serving(plan="premium") as api:
        for _ in range(2):
            await api.spend(300)
            answer = await api.ask()
            assert _limits(answer) == {
                "retry-after": "60",
                "x-ratelimit-type": "minute",
                **dict(zip(_MINUTE, ["300", "0"], strict=True)),
            }
            await trio.sleep(60)


async def test_a_broken_endpoint_counts_nothing(autojump_clock: MockClock) -> None:
    """5xx has dryAPI's error body and no limits; afterwards none is missing."""
    async with _serving() as api:
        api.dryapi.faults.fail(30, 1, 500)
        for _ in range(60):
            answer = await api.ask()
            _check_error(answer, 500)
            assert _limits(answer) == {}
        await trio.sleep(30)
        assert (await api.ask()).headers["x-ratelimit-remaining"] == "49"
        assert api.statistics.status_answers == {"500": 60, "404": 1}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_405(autojump_clock: MockClock, method: str) -> None:
    """They have dryAPI's error body and are told what is allowed."""
    async with _serving() as api:
        path = "/api/v1/client/request-status/x"
        answer = await api.client.request(method, path)
        _check_error(answer, 405)
        assert "GET" in answer.headers["allow"]
