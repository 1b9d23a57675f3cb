"""Tests of opening a port; `test_ending` has how serving ends."""

from __future__ import annotations

import socket

import httpx  # noqa: TID251 - the client of these tests
import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bridge.errors import ExitCode, ListenError
from bridge.http.server import serve


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
