"""Tests of the board's answers, on a real port."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx  # noqa: TID251 - the browser of these tests
import pytest
import structlog
import trio
import trio.testing

from bridge.board.board import Board, Bounds
from bridge.board.web import Stream, application
from bridge.http.server import Limits, serve
from tests.board.records import JPEG, Page, preview
from tests.consumer.records import START_MS, job_record


_PATIENCE_SECONDS = 5.0


class Served:
    """A board on a port, and a client."""

    def __init__(self, board: Board, stream: Stream, client: httpx.AsyncClient) -> None:
        self.board = board
        self.stream = stream
        self.client = client

    def take(self, *ids: str, image: str | None = None) -> None:
        """Have records of jobs taken."""
        run = [job_record(one, preview=image) for one in ids]
        self.board.take_jobs(run, START_MS, 0.0)


@asynccontextmanager
async def served(
    limits: Limits | None = None, **more: Any
) -> AsyncIterator[tuple[Served, int]]:
    """Serve a board for the block; give it with its port."""
    settings = Bounds(**{"updates_per_second": 60} | more)
    board = Board("jobs", settings, START_MS - 900_000)
    stream = Stream(board, settings)
    app = application(board, stream, ["Board.Example", "10.0.0.5"])
    async with trio.open_nursery() as nursery:

        async def open_port(
            task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
        ) -> None:
            await serve(
                app,
                "127.0.0.1:0",
                setting="board.listen",
                limits=limits,
                task_status=task_status,
            )

        port: int = await nursery.start(open_port)
        nursery.start_soon(stream.run)
        address = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(
            base_url=address, trust_env=False, timeout=_PATIENCE_SECONDS
        ) as client:
            yield Served(board, stream, client), port
        nursery.cancel_scope.cancel()


async def asked(port: int, header: str = "Accept: */*") -> trio.SocketStream:
    """Ask for the events, for an answer without chunks."""
    client = await trio.open_tcp_stream("127.0.0.1", port)
    head = f"GET /events HTTP/1.0\r\nHost: localhost\r\n{header}\r\n\r\n"
    await client.send_all(head.encode())
    return client


async def until(client: trio.SocketStream, text: bytes) -> bytes:
    """Read until a text comes; return all that was read."""
    received = b""
    with trio.fail_after(_PATIENCE_SECONDS):
        while text not in received:
            received += await client.receive_some(65536)
    return received


async def test_every_answer_is_safe() -> None:
    """Whatever it is: only the page's own files run."""
    async with served() as (here, _):
        here.take("a", image=preview())
        for path in ("/", "/board.js", "/nothing", "/previews/a", "/previews/b"):
            answer = await here.client.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none';"), path
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in policy


async def test_the_pages_files_are_served() -> None:
    """With their types, again only if they changed, and no other path is a file."""
    async with served() as (here, _):
        page = await here.client.get("/")
        assert page.status_code == 200
        assert page.text.startswith("<!doctype html>")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-cache"
        for etag in (page.headers["etag"], f"W/{page.headers['etag']}"):
            had = {"If-None-Match": f'"other", {etag}'}
            again = await here.client.get("/", headers=had)
            assert (again.status_code, again.content) == (304, b"")
        head = await here.client.head("/board.js")
        assert int(head.headers["content-length"]) > 1_000
        assert head.content == b""
        for path in (
            "/x",
            "/index.html",
            "/../pyproject.toml",
            "/%2e%2e/x",
            "/index.html/",
            "/events/",
        ):
            assert (await here.client.get(path)).status_code == 404, path


async def test_nothing_can_be_changed() -> None:
    """Only GET and HEAD are allowed."""
    async with served() as (here, _):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            for path in ("/", "/events", "/previews/a"):
                answer = await here.client.request(method, path)
                assert answer.status_code == 405
                assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_board_answers_to_its_names_alone() -> None:
    """A foreign name that resolves to here (DNS rebinding) gets nothing."""
    hosts = {
        "127.0.0.1:8090": 200,
        "localhost": 200,
        "LOCALHOST:1": 200,
        "[::1]:8090": 200,
        "board.example:443": 200,
        "10.0.0.5": 200,
        "evil.example": 421,
        "127.0.0.1.evil.example": 421,
        "[::1].evil.example": 421,
        "localhost:80@evil.example": 421,
        "": 421,
    }
    async with served() as (here, _):
        for host, status in hosts.items():
            answer = await here.client.get("/", headers={"Host": host})
            assert answer.status_code == status, host
            assert ("BRIDGE_BOARD_HOSTS" in answer.text) == (status == 421)


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
        ("cross-site", "no-cors", 403),
    ],
)
async def test_another_sites_page_gets_nothing(
    site: str, mode: str, status: int
) -> None:
    """A link to the board is one thing, a part of another page is not."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    async with served() as (here, _):
        assert (await here.client.get("/", headers=headers)).status_code == status


async def test_a_preview_is_a_picture_and_nothing_else() -> None:
    """Sniffed, in a sandbox, cached by its version; what isn't an image is a 404."""
    name = "a/../b?c#%2e&<ü"
    async with served() as (here, _):
        here.take(name, image=preview())
        here.take("svg", image="data:image/svg+xml,<svg onload='x()'/>")
        path = f"/previews/{quote(name, safe='')}"
        version = here.board.picture(name).version  # type: ignore[union-attr]
        answer = await here.client.get(f"{path}?v={version}")
        assert (answer.status_code, answer.content) == (200, JPEG)
        assert answer.headers["content-type"] == "image/jpeg"
        policy = answer.headers["content-security-policy"]
        assert policy == "default-src 'none'; sandbox"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        cache = "private, max-age=3600, immutable"
        assert answer.headers["cache-control"] == cache
        newer = await here.client.get(f"{path}?v={version - 1}")
        assert newer.headers["cache-control"] == "no-store"
        assert (await here.client.get("/previews/svg?v=1")).status_code == 404
        assert (await here.client.get("/previews/")).status_code == 404


async def test_events_are_a_snapshot_and_updates() -> None:
    """Plain for a client without gzip; a browser that disconnects makes room."""
    async with served(max_browsers=1) as (here, port):
        here.take("a-1", "b-1")
        assert (await here.client.head("/events")).status_code == 200
        client = await asked(port)
        received = await until(client, b'"id":"b-1"')
        head, _, event = received.partition(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head.lower()
        assert b"cache-control: no-store" in head.lower()
        assert event.startswith(b"retry: 2000\nevent: snapshot\ndata: {")
        full = await here.client.get("/events")
        assert full.status_code == 503
        assert full.text == "The board serves 1 browsers, its maximum.\n"
        here.take("a-2")
        assert b"event: update\ndata: " in await until(client, b'"id":"a-2"')
        await client.aclose()
        with trio.fail_after(_PATIENCE_SECONDS):
            while here.stream.browsers:  # noqa: ASYNC110 - nothing notifies
                await trio.sleep(0.02)


async def test_events_are_compressed_for_a_browser() -> None:
    """Each can be read as soon as it is received."""
    async with served() as (here, port):
        here.take("a-1")
        client = await asked(port, "Accept-Encoding: gzip, deflate, br")
        received = await until(client, b"\r\n\r\n")
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head.lower()
        gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        text = gzip.decompress(body)
        for job in (b"a-1", b"a-2"):
            with trio.fail_after(_PATIENCE_SECONDS):
                while b'"id":"%s"' % job not in text:
                    text += gzip.decompress(await client.receive_some(65536))
            here.take("a-2")
        await client.aclose()


async def test_a_browser_that_does_not_read_is_disconnected() -> None:
    """After the time that one send may take."""
    limits = Limits(phase_seconds=0.3)
    with structlog.testing.capture_logs() as logs:
        async with served(limits, max_jobs=400) as (here, port):
            client = await asked(port)
            with trio.fail_after(_PATIENCE_SECONDS):
                while not here.stream.browsers:  # noqa: ASYNC110 - nothing notifies
                    await trio.sleep(0.01)
                while here.stream.browsers:
                    here.take(*[f"{n}{'x' * 290}" for n in range(200)])
                    await trio.sleep(0.01)
            await client.aclose()
    # A bad client isn't a bug.
    assert [line["event"] for line in logs] == ["port.listening"]


class Browser:
    """A browser that takes some time for each event."""

    def __init__(self, *, accepts: bytes = b"gzip, br") -> None:
        self.scope = {"method": "GET", "headers": [(b"accept-encoding", accepts)]}
        self.seconds = 0.0
        self.page: Page | None = None
        self.received: list[tuple[float, bytes]] = []
        self.names: list[str] = []
        self._inflate: Any = None

    async def send(self, message: Any) -> None:
        """Take an event, as ASGI sends it."""
        if message["type"] == "http.response.start":
            if (b"content-encoding", b"gzip") in message["headers"]:
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            return
        await trio.sleep(self.seconds)
        body: bytes = message["body"]
        self.received.append((trio.current_time(), body))
        # Each event is complete: a browser waits for no byte of the next one.
        text = (self._inflate.decompress(body) if self._inflate else body).decode()
        retry, event, data = text.removesuffix("\n\n").split("\n")
        assert retry == "retry: 2000"
        self.names.append(event.removeprefix("event: "))
        if self.names[-1] == "snapshot":
            self.page = Page(data.removeprefix("data: "))
        else:
            assert self.page is not None
            self.page.take(data.removeprefix("data: "))


@asynccontextmanager
async def connected(*browsers: Browser) -> AsyncIterator[tuple[Board, Stream]]:
    """Have browsers connected to a board for the block."""
    board = Board("jobs", Bounds(), START_MS - 900_000)
    stream = Stream(board, Bounds())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        for browser in browsers:
            nursery.start_soon(stream, browser.scope, trio.sleep_forever, browser.send)
        await trio.sleep(0.001)
        yield board, stream
        nursery.cancel_scope.cancel()


async def _busy(board: Board, seconds: float) -> None:
    """Take five hundred events a second for a while."""
    for number in range(int(seconds * 500)):
        record = job_record(f"job-{number % 5}", progress=str(number % 100))
        board.take_jobs([record], START_MS, 0.0)
        await trio.sleep(0.002)


@pytest.mark.parametrize("accepts", [b"gzip, br", b"identity"])
async def test_a_flood_is_four_updates_a_second(
    autojump_clock: trio.testing.MockClock, accepts: bytes
) -> None:
    """However much comes between them, in either encoding."""
    browser = Browser(accepts=accepts)
    async with connected(browser) as (board, _):
        await _busy(board, 5.0)
        await trio.sleep(0.3)
    assert browser.page is not None
    assert {job["progress"] for job in browser.page.jobs.values()} == set(
        range(95, 100)
    )
    assert 20 <= len(browser.received) <= 23
    assert set(browser.names[1:]) == {"update"}


async def test_silence_is_figures_each_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A browser knows by them that the board is still there."""
    browser = Browser()
    async with connected(browser):
        await trio.sleep(10.1)
    assert 10 <= len(browser.received) <= 12


async def test_a_slow_browser_gets_a_snapshot(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One message for all that it missed; nothing queues up."""
    slow = Browser()
    async with connected(slow) as (board, _):
        slow.seconds = 3.0
        await _busy(board, 6.0)
        slow.seconds = 0.0
        await trio.sleep(4.0)
        assert slow.page is not None
        assert slow.page.jobs == Page(board.snapshot(board.figures(0, 0.0))).jobs
    # Two that took three seconds, one that caught up, then figures.
    assert slow.names[:4] == ["snapshot", "update", "snapshot", "snapshot"]
    assert set(slow.names[4:]) == {"update"}
    assert len(slow.names) <= 9


async def test_all_browsers_get_the_same_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A hundred of them: each message is encoded once."""
    browsers = [Browser() for _ in range(100)]
    async with connected(*browsers) as (board, stream):
        await _busy(board, 3.0)
        assert stream.browsers == 100
    messages = {id(body) for browser in browsers for _, body in browser.received[1:]}
    assert len(messages) <= 13
    assert all(len(browser.received) > 10 for browser in browsers)
