"""The sandbox's own doors, over HTTP, with a client that counts along."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox, SandboxConfig, SandboxError, control
from bridge.sandbox.statistics import WebhookStatistics
from tests.sandbox.client import connect, subscribed, wait_until
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


async def test_sockets_are_dropped_with_a_close_code(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Every connection gets the code, with the error before it that was asked for."""
    sandbox, base = await start()
    url = f"{base}/sandbox/sockets/drop"
    full: dict[str, object] = {"code": 4100, "message": "full"}
    commands: list[tuple[dict[str, object], int]] = [({}, 4200), (full, 4100)]
    for body, code in commands:
        async with (
            subscribed(sandbox, base) as one,
            subscribed(sandbox, base) as other,
        ):
            assert (await http.post(url, json=body)).json() == {"dropped": 2}
            for client in (one, other):
                if "message" in body:
                    error = await client.receive()
                    assert error["event"] == "pusher:error"
                    assert error["data"] == full
                assert await client.receive() is None
                assert client.close == (code, "")
        await wait_until(lambda: not sandbox.statistics.connections)
    # Whoever comes after it is let in.
    async with subscribed(sandbox, base):
        pass


async def test_sockets_are_reset(start: Start, http: httpx.AsyncClient) -> None:
    """A reset ends them without a close frame, and their subscriptions with them."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        url = f"{base}/sandbox/sockets/drop"
        assert (await http.post(url, json={"code": None})).json() == {"dropped": 1}
        with pytest.raises(trio.BrokenResourceError):
            await client.receive()
        assert client.close is None
    await wait_until(lambda: not sandbox.statistics.subscriptions)
    assert sandbox.statistics.connections == 0


@pytest.mark.parametrize("by", ["http", "reset", "error"])
async def test_new_sockets_are_turned_away(
    start: Start, http: httpx.AsyncClient, by: str
) -> None:
    """From the drop on nobody is let in, until it is taken back."""
    sandbox, base = await start()
    async with subscribed(sandbox, base) as client:
        body = {"refuse": {"seconds": 3600, "by": by}}
        await http.post(f"{base}/sandbox/sockets/drop", json=body)
        assert await client.wait_closed() == (4200, "")
    for _ in range(2):
        await _turned_away(base, by)
    assert sandbox.statistics.connections_refused == 2
    await http.post(f"{base}/sandbox/sockets/refuse", json={"seconds": 0})
    async with subscribed(sandbox, base):
        pass
    await http.post(f"{base}/sandbox/sockets/refuse", json={"seconds": 0.3, "by": by})
    await _turned_away(base, by)
    await trio.sleep(0.3)
    async with subscribed(sandbox, base):
        pass


async def _turned_away(base: str, by: str) -> None:
    if by == "reset":
        with pytest.raises(trio.BrokenResourceError):
            async with connect(base):
                pass
        return
    async with connect(base) as client:
        if by == "http":
            assert client.status == 503
        else:
            assert (await client.receive())["data"]["code"] == 4200
            assert await client.wait_closed() == (4200, "")


async def test_sockets_of_another_server_are_left_alone(
    start: Start, http: httpx.AsyncClient
) -> None:
    """A sandbox that drives another server says whose sockets they are."""
    _, pusher = await start()
    _, base = await start(pusher_url=pusher.replace("http", "ws"))
    for path, body in (("drop", "{}"), ("refuse", '{"seconds":1}')):
        answer = await http.post(f"{base}/sandbox/sockets/{path}", content=body)
        assert answer.status_code == 409
        assert "--pusher-url" in answer.json()["message"]


async def test_the_status_endpoint_breaks_and_heals(
    start: Start, http: httpx.AsyncClient
) -> None:
    """All calls or a share of them get 5xx until it is taken back."""
    sandbox, base = await start(plan="premium")
    fault, ask = f"{base}/sandbox/status-endpoint", f"{base}/api/v1/client/"
    await http.post(fault, json={"seconds": 3600})
    answers = [await http.get(f"{ask}request-status/x") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].json()["statusCode"] == 503
    await http.post(fault, json={"seconds": 3600, "share": 0.5, "code": 502})
    answers = [await http.get(f"{ask}request-status/x") for _ in range(60)]
    assert {answer.status_code for answer in answers} == {404, 502}
    await http.post(fault, json={"seconds": 0})
    answers = [await http.get(f"{ask}request-status/x") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {404}
    counted = sandbox.statistics.status_answers
    assert (counted["503"], sum(counted.values())) == (5, 70)


async def test_jobs_are_ended_on_command(start: Start, http: httpx.AsyncClient) -> None:
    """Done with its event, or failed without one; wherever the job stood."""
    sandbox, base = await start(fail=0)
    async with subscribed(sandbox, base) as client:
        ids = []
        for interval_seconds in (3600, 3600, 0.05):
            body = {"interval_seconds": interval_seconds, "steps": 10_000}
            ids.append(
                (await http.post(f"{base}/jobs", json=body)).json()["request_id"]
            )
        frame = await client.receive()
        assert json.loads(frame["data"])["request_id"] == ids[2]
        for request_id, how in zip(ids, ("finish", "fail", "finish"), strict=True):
            status = "error" if how == "fail" else "done"
            answer = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
            assert answer.json() == {"request_id": request_id, "status": status}
            path = f"{base}/api/v1/client/request-status/{request_id}"
            data = (await http.get(path)).json()["data"]
            assert data["status"] == status
            assert bool(data["result_url"]) is (status == "done")
            again = await http.post(f"{base}/sandbox/jobs/{request_id}/{how}")
            assert again.status_code == 409
            assert status in again.json()["message"]
        await client.send("pusher:ping")
        last = {}
        while (frame := await client.receive())["event"] != "pusher:pong":
            event = json.loads(frame["data"])
            last[event["request_id"]] = event
        assert [last[each]["status"] for each in (ids[0], ids[2])] == ["done", "done"]
        assert ids[1] not in last
    assert sandbox.statistics.jobs_running == 0
    assert (sandbox.statistics.jobs_done, sandbox.statistics.jobs_failed) == (2, 1)


async def test_jobs_end_while_nobody_listens(
    start: Start, http: httpx.AsyncClient
) -> None:
    """Without a subscriber, and with the emission at a stop."""
    sandbox, base = await start(rate=0)
    request_id = (await http.post(f"{base}/jobs")).json()["request_id"]
    await http.post(f"{base}/sandbox/emission", json={"rate": 0})
    answer = await http.post(f"{base}/sandbox/jobs/{request_id}/finish")
    assert answer.status_code == 200
    assert sandbox.statistics.events_by_status["done"] == 1
    answer = await http.post(f"{base}/sandbox/jobs/unknown/finish")
    assert answer.status_code == 404


async def test_simulated_jobs_end_on_command_too(
    start: Start, http: httpx.AsyncClient
) -> None:
    """The simulation goes on with others; no event follows the end."""
    sandbox, base = await start(rate=300, fail=0)
    async with subscribed(sandbox, base) as client:

        async def ids_of(count: int) -> set[str]:
            frames = [await client.receive() for _ in range(count)]
            return {json.loads(frame["data"])["request_id"] for frame in frames}

        await wait_until(lambda: sandbox.statistics.events_emitted > 50)
        seen = await ids_of((await sandbox.stop_emission()).events_emitted)
        for request_id in seen:
            answer = await http.post(f"{base}/sandbox/jobs/{request_id}/fail")
            assert answer.status_code == 200
        await sandbox.set_rate(300)
        assert not seen & await ids_of(100)
    assert sandbox.statistics.jobs_failed == len(seen) > 20


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sockets/drop", '{"code":1006}'),
        ("sockets/drop", '{"code":200}'),
        ("sockets/drop", '{"refuse":{"by":"fire","seconds":1}}'),
        ("sockets/refuse", "{}"),
        ("sockets/refuse", '{"seconds":-1}'),
        ("status-endpoint", "{}"),
        ("status-endpoint", '{"seconds":1,"share":2}'),
        ("status-endpoint", '{"seconds":1,"code":404}'),
        ("status-endpoint", "[" * 4_000),
    ],
)
async def test_nonsense_makes_no_fault(
    start: Start, http: httpx.AsyncClient, path: str, body: str
) -> None:
    """A command that can't be read gets 422 and changes nothing."""
    sandbox, base = await start()
    answer = await http.post(f"{base}/sandbox/{path}", content=body)
    assert answer.status_code == 422
    assert answer.json()["message"]
    async with subscribed(sandbox, base):
        pass
    answer = await http.get(f"{base}/api/v1/client/request-status/x")
    assert answer.status_code == 404


def test_the_documentation_lists_every_command_and_count() -> None:
    """The page's table has the paths that are served, and no count is missing."""
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text("utf-8")
    listed = re.findall(r"^\| `([\w/{}-]+)` \|", page, re.MULTILINE)
    served = Path(control.__file__).read_text("utf-8")
    assert listed == re.findall(r'"([\w/{}-]+)": self\._(?!doors)', served)
    counts = WebhookStatistics().as_dict()
    for name in (*counts, *counts["faults"], "status_answers", "connections_refused"):
        assert f"`{name}`" in page
