"""The server: HTTP/1.1 as good clients speak it, its address, and its end."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from functools import partial

import httpx  # noqa: TID251 - the good client of these tests
import pytest
import structlog
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.errors import ExitCode, ListenError
from bridge.http.server import Limits, serve
from tests.http.clients import (
    GET,
    PATIENCE_SECONDS,
    POST,
    application,
    connected,
    descriptors,
    said,
    served,
    until_end,
)


_ANSWER = b"HTTP/1.1 200 "


async def test_body_comes_whole() -> None:
    """A megabyte arrives, with its length or in chunks."""
    size = 1024 * 1024

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b"x" * (size // 16)

    async with (
        served() as port,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        url = f"http://127.0.0.1:{port}/"
        assert (await client.post(url, content=b"x" * size)).text == str(size)
        assert (await client.post(url, content=chunks())).text == str(size)


async def test_refusal_is_read_by_a_client_that_still_sends() -> None:
    """An application that reads no body can respond all the same."""
    async with served() as port, httpx.AsyncClient(trust_env=False) as client:
        for size in (10, 100_000, 1_000_000):
            answer = await client.post(
                f"http://127.0.0.1:{port}/refuse", content=b"x" * size
            )
            assert (answer.status_code, answer.text) == (401, "no")


_POST = POST + b"Content-Length: %d\r\n\r\n"
_ASKS = POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([_POST % 20_000 + b"x" * 20_000], [(200, b"20000")]),
        ([_POST.replace(b"/", b"/refuse", 1) % 4 + b"body"], [(401, b"no")]),
        # The client goes on once the application reads.
        ([_ASKS, b"five!"], [(100, b""), (200, b"5")]),
        ([_ASKS.replace(b"/", b"/refuse", 1)], [(401, b"no")]),
        ([GET.replace(b"GET", b"HEAD")], [(200, b"")]),
        # However the bytes are cut, the request is the same.
        *(
            ([(_POST % 5)[:cut], (_POST % 5)[cut:] + b"five!"], [(200, b"5")])
            for cut in range(1, len(_POST % 5), 8)
        ),
    ],
)
async def test_each_request_has_its_answer(
    sent: list[bytes], answers: list[tuple[int, bytes]]
) -> None:
    """Status and body."""
    async with served() as port:
        parts = (await said(port, *sent)).split(b"HTTP/1.1 ")[1:]
    found = [(int(part[:3]), part.partition(b"\r\n\r\n")[2]) for part in parts]
    assert found == answers
    # Also of an answer to HEAD.
    assert all(
        (b"content-length: " in part) != part.startswith(b"100") for part in parts
    )


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
    ],
    ids=["1.0", "close"],
)
async def test_client_that_wants_one_answer_gets_the_end_with_it(head: bytes) -> None:
    """It need not wait for any deadline."""
    async with served() as port:
        with trio.fail_after(PATIENCE_SECONDS):
            answer = await said(port, head)
        assert answer.startswith(_ANSWER)
        assert b"connection: close" in answer.lower()


async def _silent(_: Scope, __: Receive, ___: Send) -> None:
    """Answer nothing."""


async def _broken(_: Scope, __: Receive, send: Send) -> None:
    """Stop in the middle of an answer."""
    head = {"type": "http.response.start", "status": 200, "headers": []}
    await send(head)
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise LookupError


async def _patient(_: Scope, receive: Receive, send: Send) -> None:
    """Answer in pieces, and wait for the client to go."""
    head = {"type": "http.response.start", "status": 200, "headers": []}
    assert (await receive())["type"] == "http.request"
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert (await receive())["type"] == "http.disconnect"
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait)
        await send(head)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (_silent, (b"HTTP/1.1 500 ", b"onnection: close\r\n\r\n")),
        (_broken, (_ANSWER, b"4\r\nhalf\r\n")),
        (_patient, (_ANSWER, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")),
    ],
)
async def test_any_application_ends_its_exchange(
    app: ASGIApp, expected: tuple[bytes, bytes], nursery: trio.Nursery
) -> None:
    """An application that responds not at all, or half, or late, blocks no client."""
    serving = partial(serve, limits=Limits(phase_seconds=0.5))
    port: int = await nursery.start(serving, app, "127.0.0.1:0")
    answer = await said(port, GET)
    assert answer.startswith(expected[0])
    assert answer.endswith(expected[1])
    nursery.cancel_scope.cancel()


# Where a client may be when serving ends; none of them is waited for.
_IDLE = {
    "silent": b"",
    "in its head": b"GET / HTTP/1.1\r\n",
    "answered": GET,
    "reading its last answer": GET[:-2] + b"Connection: close\r\n\r\n",
}
# Of these a request is under way.
_UNDER_WAY = {
    "in its body": POST + b"Content-Length: 9\r\n\r\n",
    "not reading": GET.replace(b"/", b"/flood", 1),
    "at an answer without an end": GET.replace(b"/", b"/last/10", 1),
}


async def _ended(firsts: dict[str, bytes]) -> tuple[float, int]:
    """Serve such clients and cancel; return the seconds, and descriptors left over."""
    before = descriptors()
    streams = []
    async with trio.open_nursery() as nursery:
        serving = partial(serve, application(), "127.0.0.1:0", limits=Limits())
        port: int = await nursery.start(serving)
        for first in firsts.values():
            streams.append(await connected(port))
            await streams[-1].send_all(first)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
        begun = trio.current_time()
    seconds = trio.current_time() - begun
    for stream in streams:
        await stream.aclose()
    return seconds, descriptors() - before


async def test_nobody_who_has_no_request_is_waited_for() -> None:
    """Their connections end with the port, and leave no descriptor."""
    seconds, left = await _ended(_IDLE)
    assert seconds < 0.9
    assert left <= 0


async def test_requests_under_way_end_after_the_grace() -> None:
    """One that waits for its client gets a second, and leaves no descriptor."""
    seconds, left = await _ended(_IDLE | _UNDER_WAY)
    assert 0.9 < seconds < 1 + PATIENCE_SECONDS
    assert left <= 0


async def test_port_is_closed_while_requests_end() -> None:
    """No new client is accepted while it drains; connected ones get the response."""
    begun = trio.Event()

    async def work(_: Request) -> Response:
        begun.set()
        await trio.sleep(0.4)
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/", work)])
    answers: list[bytes] = []

    async def ask(port: int) -> None:
        stream = await connected(port)
        # A second request is behind it: it comes too late.
        await stream.send_all(GET + GET)
        answers.append((await until_end(stream))[0])
        await stream.aclose()

    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, app, "127.0.0.1:0")
        clients.start_soon(ask, port)
        await begun.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="all attempts to connect"):
                await connected(port)
    (answer,) = answers
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer
    assert answer.endswith(b"done")


async def test_application_that_fails_at_the_end_fails_alone() -> None:
    """What it raises after the drain timeout is logged, and stops nothing else."""
    begun = trio.Event()

    async def fail_at_the_end(_: Request) -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError

    app = Starlette(routes=[Route("/", fail_at_the_end)])
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, app, "127.0.0.1:0")
            stream = await connected(port)
            await stream.send_all(GET)
            await begun.wait()
            nursery.cancel_scope.cancel()
        await stream.aclose()
    assert logs[-1]["event"] == "port.application_failed"


async def test_cancel_at_any_moment_leaves_nothing() -> None:
    """However far a request has come, no descriptor stays behind."""
    before = descriptors()
    for checkpoints in range(40):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, application(), "127.0.0.1:0")
            stream = await connected(port)
            await stream.send_all(GET[:-2] + b"Connection: close\r\n\r\n")
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await stream.aclose()
        assert descriptors() <= before


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def _here(_: Request) -> Response:
    return PlainTextResponse("here")


_APP = Starlette(routes=[Route("/", _here)])

needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")


async def _get(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).text


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1"),
        ("localhost:0", "127.0.0.1"),
        pytest.param("[::1]:0", "[::1]", marks=needs_ipv6),
        pytest.param("[::]:0", "127.0.0.1", marks=needs_ipv6),
        pytest.param("[::]:0", "[::1]", marks=needs_ipv6),
    ],
)
async def test_address_is_served(
    nursery: trio.Nursery, listen: str, reached: str
) -> None:
    """Port 0 takes a free port, which is reported; any address means both families."""
    port: int = await nursery.start(serve, _APP, listen)
    assert port > 0
    assert await _get(f"http://{reached}:{port}/") == "here"
    nursery.cancel_scope.cancel()


async def test_port_in_use_is_one_clear_sentence() -> None:
    """The error names the address, the setting and its environment variable."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            await serve(_APP, listen)
    assert str(caught.value) == (
        f"can't listen on {listen}: the port is in use by another process. "
        "Set another address with operations.listen (BRIDGE_OPERATIONS_LISTEN)"
    )
    assert caught.value.listen == listen
    assert caught.value.exit_code is ExitCode.USAGE
    with pytest.raises(ListenError, match=r"webhook\.listen \(BRIDGE_WEBHOOK_LISTEN\)"):
        await serve(_APP, "nonsense", setting="webhook.listen")


_SENSELESS: list[str] = [
    "",
    "8080",
    ":8080",
    "127.0.0.1:",
    "127.0.0.1:http",
    "::1:8080",
    "h:65536",
    "h:-1",
]


async def test_address_without_sense_is_refused(subtests: pytest.Subtests) -> None:
    """What is no `host:port` is refused with an example of one."""
    for listen in _SENSELESS:
        with (
            subtests.test(listen=listen),
            pytest.raises(ListenError, match=r"BRIDGE_OPERATIONS_LISTEN.*\[::1\]:8080"),
        ):
            await serve(_APP, listen)


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no-such-host.invalid:0"])
async def test_address_of_another_machine_is_refused(listen: str) -> None:
    """The error names an address that isn't local, or an unknown name."""
    with pytest.raises(ListenError, match=f"can't listen on {listen}: "):
        await serve(_APP, listen)


async def test_cancel_while_starting_leaves_nothing() -> None:
    """A cancel at any moment of the start leaves no socket behind."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with trio.fail_after(20):
        for checkpoints in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, _APP, f"127.0.0.1:{port}")
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    socket.create_server(("127.0.0.1", port)).close()
