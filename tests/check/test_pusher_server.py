"""A Pusher server that takes the upgrade and then doesn't do what it should."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from bridge.check import Report
from bridge.errors import ExitCode
from tests.check.ground import Ground, check_told
from tests.kit.scripted import Peer, closing, spoken


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)


async def say_nothing(_: Peer) -> None:
    """Upgrade, and forget the greeting."""
    await trio.sleep_forever()


async def only_complain(peer: Peer) -> None:
    """Say that there are too many, and leave it at that."""
    await peer.complain(4100, "Over capacity")
    await trio.sleep_forever()


async def begin_with_something_else(peer: Peer) -> None:
    """Answer a ping that nobody sent."""
    await peer.say("pusher:pong", data={})
    await trio.sleep_forever()


async def forget_the_subscription(peer: Peer) -> None:
    """Greet, and never answer."""
    await peer.establish()
    await trio.sleep_forever()


async def refuse_the_connection(peer: Peer) -> None:
    """Take the subscription for a reason to end."""
    await peer.establish()
    await peer.read()
    await peer.complain(4009, "Connection not authorized")
    await peer.close(4009)


async def break_down(peer: Peer) -> None:
    """Greet, and be gone."""
    await peer.establish()
    await peer.read()
    await peer.stream.aclose()


_Script = Callable[[trio.abc.Stream], Awaitable[None]]

# What a server does; the step that reports it, and its words.
_CASES: list[tuple[_Script, str]] = [
    (spoken(say_nothing), "pusher.handshake|no connection_established within 3 s"),
    (spoken(only_complain), "pusher.handshake|Over capacity|4100|It may pass"),
    (closing(4200), "pusher.handshake|4200|It may pass"),
    (
        spoken(begin_with_something_else),
        "pusher.handshake|instead of connection_established|BRIDGE_PUSHER_URL",
    ),
    (
        spoken(forget_the_subscription),
        "subscription|no answer to 2 subscriptions|the same deployment",
    ),
    (spoken(refuse_the_connection), "subscription|4009|BRIDGE_CLIENT_ID"),
    (spoken(break_down), "subscription|broke|BRIDGE_PUSHER_URL"),
]


async def test_the_step_that_it_spoils_says_so(
    subtests: pytest.Subtests, ground: Ground
) -> None:
    """All else is ok, the ways before it and those beside it."""
    reports: dict[str, Report] = {}

    async def look(script: _Script, told: str) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, script, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            port = listener.socket.getsockname()[1]
            changes = {"BRIDGE_PUSHER_URL": f"ws://127.0.0.1:{port}"}
            reports[told] = await ground.check(changes)
            nursery.cancel_scope.cancel()

    # Side by side: some wait for seconds.
    async with trio.open_nursery() as nursery:
        for script, told in _CASES:
            nursery.start_soon(look, script, told)
    for _, told in _CASES:
        with subtests.test(told=told):
            is_refusal = told.startswith("subscription|4009")
            code = ExitCode.REFUSED_BY_DRYAPI if is_refusal else ExitCode.FAILED
            check_told(reports[told], told, exit_code=code)
