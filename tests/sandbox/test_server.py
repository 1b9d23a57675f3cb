"""The port: what it accepts, and that nothing holds up its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bridge.errors import ConfigError
from bridge.sandbox import Sandbox, SandboxConfig, SandboxError
from bridge.sandbox.config import split_address
from tests.sandbox.client import subscribed, wait_until
from tests.sandbox.conftest import Start


def test_addresses_are_taken_apart() -> None:
    """Host and port of IPv4, IPv6, names and any interface."""
    assert split_address("127.0.0.1:6001") == ("127.0.0.1", 6001)
    assert split_address("[::1]:0") == ("::1", 0)
    assert split_address("localhost:80") == ("localhost", 80)
    assert split_address(":80") == ("0.0.0.0", 80)  # noqa: S104 - compared
    for wrong in ("6001", "localhost", "localhost:http", "localhost:99999", ""):
        with pytest.raises(ConfigError, match="host:port"):
            split_address(wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"rate": -1},
        {"rate": float("nan")},
        {"fail": 1.5},
        {"preview_bytes": 10},
        {"pusher_url": "http://127.0.0.1:80"},
        {"pusher_url": "ws://"},
        {"app_key": ""},
        {"webhook_url": "ftp://receiver/hook"},
        {"webhook_url": "http:///hook"},
        {"webhook_url": "http://receiver:99999/"},
        {"webhook_secret": ""},
        {"webhook_retry_scale": 1.5},
        {"webhook_retry_scale": float("nan")},
        {"listen": "nowhere"},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    """A value out of its range is an error that begins with its name."""
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name}: "):
        SandboxConfig(**options)


def test_a_configuration_shows_no_secret() -> None:
    """Neither token nor secret is in the text of a configuration."""
    config = SandboxConfig(
        api_token="t0ken", app_secret="s3cret", webhook_secret="whsec_x"
    )
    for secret in ("t0ken", "s3cret", "whsec_x"):
        assert secret not in repr(config)
        assert secret not in str(config)


async def test_a_port_in_use_is_one_clear_error(start: Start) -> None:
    """The second sandbox on a port says which one is taken."""
    _, base = await start()
    listen = base.removeprefix("http://")
    with pytest.raises(SandboxError, match=f"{listen} is in use"):
        await Sandbox(SandboxConfig(listen=listen)).serve()


async def test_the_request_line_may_come_in_pieces(start: Start) -> None:
    """A request is understood however the network cuts it, twice on one connection."""
    _, base = await start()
    host, port = base.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        for _ in range(2):
            for piece in (b"G", b"ET /sandbox/sta", b"tistics HTTP/1.1\r\n"):
                await stream.send_all(piece)
                await trio.sleep(0.02)
            await stream.send_all(b"Host: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += await stream.receive_some()
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert json.loads(body)["events_emitted"] == 0


async def test_garbage_ends_its_connection_alone(start: Start) -> None:
    """What isn't HTTP is answered or cut off, and the port goes on."""
    sandbox, base = await start()
    host, port = base.removeprefix("http://").split(":")
    for garbage in (b"\x16\x03\x01\n", b"GET /app/x\r\n\r\n", b"x" * 70_000 + b"\n"):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(garbage)
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass
    async with subscribed(sandbox, base):
        pass


async def test_clients_that_read_nothing_do_not_hold_up_the_end() -> None:
    """Cancelling ends the sandbox at once, whatever its clients leave unread."""
    config = SandboxConfig(listen="127.0.0.1:0", rate=5_000, preview_bytes=60_000)
    sandbox = Sandbox(config)
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[str]) -> None:
            await sandbox.serve(task_status=task_status)

        base = await nursery.start(serve)
        host, port = base.removeprefix("http://").split(":")
        async with (
            subscribed(sandbox, base),
            await trio.open_tcp_stream(host, int(port)) as stream,
        ):
            # Thousands of answers asked for, none read: writing them blocks.
            nursery.start_soon(_ask_without_end, stream)
            await wait_until(lambda: sandbox.statistics.frames_dropped > 0, seconds=20)
            await trio.sleep(0.5)
            with trio.fail_after(3):
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint_if_cancelled()
    assert sandbox.statistics.connections == 0


async def _ask_without_end(stream: trio.SocketStream) -> None:
    request = b"GET /sandbox/statistics HTTP/1.1\r\nHost: x\r\n\r\n"
    while True:
        await stream.send_all(request * 100)


async def test_a_silent_connection_is_dropped(autojump_clock: MockClock) -> None:
    """Whoever connects and says nothing is cut off after 10 s."""
    config = SandboxConfig(listen="127.0.0.1:0", rate=0)
    sandbox = Sandbox(config)
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[str]) -> None:
            await sandbox.serve(task_status=task_status)

        base = await nursery.start(serve)
        host, port = base.removeprefix("http://").split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            with trio.fail_after(11):
                assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()
