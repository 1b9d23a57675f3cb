"""The sandbox's own doors, over HTTP, with a client that counts along."""

from __future__ import annotations

import json

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox, SandboxConfig, SandboxError
from tests.sandbox.client import subscribed, wait_until
from tests.sandbox.conftest import Start


async def test_statistics_agree_with_what_a_client_received(
    start: Start, http: httpx.AsyncClient
) -> None:
    """After the stop, events emitted and received are the same, by status too."""
    sandbox, base = await start(rate=300, fail=0.1)
    async with subscribed(sandbox, base) as client:
        await wait_until(lambda: sandbox.statistics.events_emitted > 400)
        answer = await http.post(f"{base}/sandbox/emission", json={"rate": 0})
        assert answer.status_code == 200
        final = answer.json()
        assert (final["rate"], final["emitting"]) == (0, False)
        received = {"processing": 0, "in_progress": 0, "done": 0}
        for _ in range(final["events_emitted"]):
            received[json.loads((await client.receive())["data"])["status"]] += 1
        await trio.sleep(0.3)
        await client.send("pusher:ping")
        assert (await client.receive())["event"] == "pusher:pong"
        later = (await http.get(f"{base}/sandbox/statistics")).json()
    assert received == final["events_by_status"]
    assert later == final
    assert later["connections"] == later["subscriptions"] == 1
    assert later["frames_dropped"] == later["events_refused"] == 0
    assert later["jobs_started"] == (
        later["jobs_running"] + later["jobs_done"] + later["jobs_failed"]
    )


async def test_the_rate_can_be_raised(start: Start, http: httpx.AsyncClient) -> None:
    """A sandbox that emits nothing begins once it is told to."""
    sandbox, base = await start(rate=0, wait_for_subscriber=False)
    answer = await http.post(f"{base}/sandbox/emission", json={"rate": 500})
    assert answer.json()["rate"] == 500
    await wait_until(lambda: sandbox.statistics.events_emitted > 100)


@pytest.mark.parametrize(
    "body", ["", "{", "{}", '{"rate":-1}', '{"rate":"1"}', '{"rate":1,"x":1}', "[1]"]
)
async def test_nonsense_changes_nothing(
    start: Start, http: httpx.AsyncClient, body: str
) -> None:
    """A rate that can't be read is refused with 422."""
    _, base = await start(rate=7)
    answer = await http.post(f"{base}/sandbox/emission", content=body)
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert (await http.get(f"{base}/sandbox/statistics")).json()["rate"] == 7


async def test_the_programmatic_stop_gives_the_counters(start: Start) -> None:
    """`stop_emission` returns final numbers; before the start it says so."""
    sandbox, _ = await start(rate=200, wait_for_subscriber=False)
    await wait_until(lambda: sandbox.statistics.events_emitted > 20)
    statistics = await sandbox.stop_emission()
    emitted = statistics.events_emitted
    await trio.sleep(0.2)
    assert sandbox.statistics.events_emitted == emitted
    with pytest.raises(SandboxError, match="isn't running"):
        await Sandbox(SandboxConfig()).stop_emission()
