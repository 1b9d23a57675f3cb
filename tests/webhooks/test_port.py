"""Webhooks over a real port, by the sandbox's own sender; `test_flood` has others."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio
from bridge.webhooks.statistics import Outcome

from bridge.errors import OutboxFullError
from bridge.http.server import serve
from bridge.sandbox import Sandbox
from bridge.settings import Secret
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import http, start  # noqa: F401 - fixtures
from tests.webhooks.house import PATH, House
from tests.webhooks.making import SECRET, body_of, completed, signed


_Start = Callable[..., Any]


class _Port:
    """A receiver on a port of its own."""

    def __init__(self, house: House, number: int) -> None:
        self.house = house
        self.number = number
        self.url = f"http://127.0.0.1:{number}{PATH}"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(one.record.value) for one in self.house.shelf.deliveries]


@pytest.fixture
async def port(nursery: trio.Nursery) -> AsyncIterator[_Port]:
    """Open a port, with a shelf behind it."""
    house = House(secret=Secret(f"old {SECRET}"))
    house.now = time.time()
    number: int = await nursery.start(serve, house.receiver.app, "127.0.0.1:0")
    yield _Port(house, number)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("prefix", ["DryAPI", "DeAPI"])
async def test_the_sandboxs_webhooks_are_taken(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
    prefix: str,
) -> None:
    """What it sends of jobs that finish and fail becomes their events."""
    options = {"webhook_secret": SECRET, "webhook_prefix": prefix}
    sandbox, base = await start(webhook_url=port.url, **options)
    jobs = {}
    for fails in (False, True):
        body = {"interval_seconds": 0, "steps": 1, "fail": fails}
        answer = await http.post(f"{base}/jobs", json=body)
        jobs[fails] = answer.json()["request_id"]
    await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 5)
    assert port.house.outcomes() == {"taken": 4, "validation": 1}
    told = {(event["request_id"], event["status"]): event for event in port.events}
    assert set(told) == {
        (jobs[fails], status)
        for fails, end in ((False, "done"), (True, "error"))
        for status in ("processing", end)
    }
    done, error = told[jobs[False], "done"], told[jobs[True], "error"]
    assert done["result_url"].startswith(base)
    assert done["job_type"] == "txt2img"
    assert error["error_code"]
    assert error["error_message"]
    for delivery in port.house.shelf.deliveries:
        is_end = delivery.record.status in {"done", "error"}
        now_us = time.time_ns() // 1000
        assert delivery.ended_us is None or abs(now_us - delivery.ended_us) < 60 * 10**6
        assert (delivery.ended_us is not None) == is_end
    assert sandbox.statistics.webhooks.tries == 5


async def test_a_bridge_without_room_gets_it_again(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
) -> None:
    """503 has the sender come again, with the same id and a new signature."""
    port.house.shelf.error = OutboxFullError("full")
    sandbox: Sandbox
    sandbox, base = await start(
        webhook_url=port.url, webhook_secret=SECRET, webhook_retry_scale=0.001
    )
    body = {"interval_seconds": 0, "steps": 0, "fail": False}
    await http.post(f"{base}/jobs", json=body)
    await wait_until(lambda: sandbox.statistics.webhooks.tries == 4)
    port.house.shelf.error = None
    await wait_until(lambda: sandbox.statistics.webhooks.delivered == 2)
    assert len(port.events) == 2
    counts = sandbox.statistics.webhooks
    assert counts.retries == counts.faults["status"]
    assert port.house.outcomes() == {"taken": 2, "unavailable": counts.retries}


async def test_a_wrong_secret_is_told_to_the_operator(
    start: _Start,  # noqa: F811
    http: httpx.AsyncClient,  # noqa: F811
    port: _Port,
) -> None:
    """The sender gets 401 and goes on trying; nothing is taken."""
    sandbox, base = await start(webhook_url=port.url, webhook_secret="another")
    await http.post(f"{base}/sandbox/webhooks/validate")
    await wait_until(lambda: sandbox.statistics.webhooks.tries == 1)
    assert port.house.outcomes() == {"wrong_signature": 1}


async def test_an_answer_that_nobody_waits_for(port: _Port) -> None:
    """A sender that hangs up after its request has it taken all the same."""
    body = body_of("job.completed", completed())
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    lines = [f"POST {PATH} HTTP/1.1", "Host: bridge", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in signed(body, time.time()).items()]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode() + body)
    await stream.aclose()
    await wait_until(port.house.outcomes)
    assert port.house.outcomes() == {Outcome.TAKEN: 1}
