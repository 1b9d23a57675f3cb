"""Tests of opening a port and of how serving ends."""

from __future__ import annotations

import logging
import socket

import httpx  # noqa: TID251 - the client of these tests
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.errors import ExitCode, ListenError
from bridge.serving import serve


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on this machine")


def _app(*, started: trio.Event | None = None, seconds: float = 0) -> Starlette:
    """Make an application that answers at `/` after some time."""

    async def answer(_: Request) -> Response:
        if started is not None:
            started.set()
        await trio.sleep(seconds)
        return PlainTextResponse("here")

    async def flood(_: Request) -> Response:
        if started is not None:
            started.set()
        return Response(b"x" * 32 * 1024 * 1024)

    return Starlette(routes=[Route("/", answer), Route("/flood", flood)])


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
    """Port 0 takes a free port, which is told; any address means both families."""
    port: int = await nursery.start(serve, _app(), listen)
    assert port > 0
    assert await _get(f"http://{reached}:{port}/") == "here"
    nursery.cancel_scope.cancel()


async def test_port_in_use_is_one_clear_sentence() -> None:
    """The error names the address, the setting and its environment variable."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            await serve(_app(), listen)
    assert str(caught.value) == (
        f"can't listen on {listen}: the port is in use by another process; "
        "set another address with operations.listen (BRIDGE_OPERATIONS_LISTEN)"
    )
    assert caught.value.listen == listen
    assert caught.value.exit_code is ExitCode.USAGE


async def test_error_comes_out_of_the_start_as_it_is(nursery: trio.Nursery) -> None:
    """Who starts the server in a nursery catches the error, not a group."""
    with (
        socket.create_server(("127.0.0.1", 0)) as holder,
        pytest.raises(ListenError),
    ):
        await nursery.start(serve, _app(), f"127.0.0.1:{holder.getsockname()[1]}")


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
            await serve(_app(), listen)


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no-such-host.invalid:0"])
async def test_address_of_another_machine_is_refused(listen: str) -> None:
    """An address that isn't here, or a name nobody knows, is named."""
    with pytest.raises(ListenError, match=f"can't listen on {listen}: "):
        await serve(_app(), listen)


async def test_error_names_the_setting_it_came_from() -> None:
    """Another port of the bridge's is named by its own setting."""
    with pytest.raises(ListenError, match=r"webhook\.listen \(BRIDGE_WEBHOOK_LISTEN\)"):
        await serve(_app(), "nonsense", setting="webhook.listen")


async def test_port_is_free_after_the_cancel() -> None:
    """Once serving has ended, the port can be taken at once."""
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, _app(), "127.0.0.1:0")
        await _get(f"http://127.0.0.1:{port}/")
        nursery.cancel_scope.cancel()
    socket.create_server(("127.0.0.1", port)).close()


async def test_request_under_way_is_answered() -> None:
    """A cancel lets an answer out that takes less than a second."""
    started = trio.Event()
    answers = []
    async with trio.open_nursery() as clients, trio.open_nursery() as servers:
        port: int = await servers.start(
            serve, _app(started=started, seconds=0.3), "127.0.0.1:0"
        )

        async def ask() -> None:
            answers.append(await _get(f"http://127.0.0.1:{port}/"))

        clients.start_soon(ask)
        await started.wait()
        servers.cancel_scope.cancel()
    assert answers == ["here"]


async def test_long_request_does_not_hold_up_the_end() -> None:
    """A request that takes longer is given up after the grace."""
    started = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as clients:

            async def ask(port: int) -> None:
                with pytest.raises(httpx.HTTPError):
                    await _get(f"http://127.0.0.1:{port}/")

            async with trio.open_nursery() as servers:
                port: int = await servers.start(
                    serve, _app(started=started, seconds=60), "127.0.0.1:0"
                )
                clients.start_soon(ask, port)
                await started.wait()
                servers.cancel_scope.cancel()


async def test_idle_connection_does_not_hold_up_the_end() -> None:
    """A scraper's open connection closes with the server, at once."""
    with trio.fail_after(0.9):
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            trio.open_nursery() as nursery,
        ):
            port: int = await nursery.start(serve, _app(), "127.0.0.1:0")
            await client.get(f"http://127.0.0.1:{port}/")
            nursery.cancel_scope.cancel()


async def test_client_that_stopped_reading_does_not_hold_up_the_end() -> None:
    """A client that never reads its answer is given up after the grace."""
    started = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, _app(started=started), "127.0.0.1:0")
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
            await started.wait()
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        await stream.aclose()


async def test_cancel_while_starting_leaves_nothing() -> None:
    """A cancel at any moment of the start leaves no socket behind."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with trio.fail_after(20):
        for checkpoints in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, _app(), f"127.0.0.1:{port}")
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    socket.create_server(("127.0.0.1", port)).close()


async def test_serving_says_nothing_of_its_own(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """No library says anything of a start or of requests."""
    caplog.set_level(logging.WARNING)
    port: int = await nursery.start(serve, _app(), "127.0.0.1:0")
    await _get(f"http://127.0.0.1:{port}/")
    assert not caplog.records
    nursery.cancel_scope.cancel()
