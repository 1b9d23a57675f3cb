"""What a server could send, made by chance, and a session that has to survive it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import trio
from hypothesis import strategies as st
from trio.testing import MockClock
from trio_websocket import ConnectionClosed  # noqa: TID251 - of the server's side
from wsproto.utilities import LocalProtocolError

from bridge.errors import RefusedError
from bridge.pusher.connection import State
from bridge.pusher.protocol import JOB_EVENT
from tests.kit.scripted import (
    CHANNEL,
    Peer,
    Script,
    ScriptedServer,
    Stage,
    spoken,
)
from tests.pusher.courses import Ear


# Far more than any script lasts, with the slowest waits between.
_PATIENCE_SECONDS = 5000.0

# Small, so that chance reaches it.
_MOST_BYTES = 4096


def survives(*scripts: Script) -> None:
    """Run a session against each script once, then against a server that works."""
    trio.run(_survive, scripts, clock=MockClock(autojump_threshold=0))


async def _survive(scripts: Sequence[Script]) -> None:
    # A clock of trio's own begins at 0, which no wall clock shows.
    await trio.sleep(1)
    before = _tasks()
    recovered = trio.Event()

    async def work(peer: Peer) -> None:
        await peer.enrol()
        recovered.set()
        await peer.answer_pings()

    async with trio.open_nursery() as servers:
        server = ScriptedServer([*scripts, spoken(work)], servers)
        # So that silence is probed.
        stage = Stage(server, listener=Ear(), has_jobs=lambda: True)
        session = stage.session({}, max_message_bytes=_MOST_BYTES)
        deliveries = stage.deliveries
        refused = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.run)
                with trio.move_on_after(_PATIENCE_SECONDS):
                    await recovered.wait()
                await trio.sleep(1)
                assert session.statistics.subscribed, server.dials
                nursery.cancel_scope.cancel()
        except* RefusedError:
            # Chance may write a code that is final for a first start.
            refused = True
        assert refused or recovered.is_set()
        assert session.statistics.events == len(deliveries.events)
        named = {(event.event, event.channel) for event in deliveries.events}
        assert named <= {(JOB_EVENT, CHANNEL)}
        assert session.statistics.state is State.DISCONNECTED
        await trio.testing.wait_all_tasks_blocked()
        assert server.live == 0, server.dials
        servers.cancel_scope.cancel()
    assert _tasks() == before


def _tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def in_place_of_the_upgrade(noise: bytes) -> Script:
    """Make a script that answers the upgrade with bytes, and goes."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(noise)
        await trio.sleep(1)

    return script


_CODES = st.sampled_from([4000, 4001, 4004, 4009, 4100, 4200, 4201, 4301, 1, None])
_CHANNELS = st.sampled_from([CHANNEL, "private-client.43", "", None])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_ERRORS = st.fixed_dictionaries(
    {}, optional={"code": _CODES | _JSON, "message": _JSON, "status": _CODES | _JSON}
)
_GREETINGS = st.fixed_dictionaries(
    {},
    optional={
        "socket_id": st.sampled_from(["1.2", "3.4", "5", ""]) | _JSON,
        "activity_timeout": st.sampled_from([1, 30, 0, -1, 10**9]) | _JSON,
    },
)
_DATA = _ERRORS | _GREETINGS | _JSON
_EVENTS = st.sampled_from(
    [
        "pusher:connection_established",
        "pusher:ping",
        "pusher:pong",
        "pusher:error",
        "pusher:subscription_error",
        "pusher_internal:subscription_succeeded",
        "request.status.updated",
        "another.event",
    ]
)
_VALID = st.sampled_from(
    [
        {"event": "pusher:connection_established", "data": '{"socket_id":"1.2"}'},
        {"event": "pusher_internal:subscription_succeeded", "channel": CHANNEL},
        {"event": "pusher:pong", "data": {}},
        {"event": "pusher:ping", "data": {}},
        {"event": "request.status.updated", "channel": CHANNEL, "data": "{}"},
    ]
).map(json.dumps)
_FORGED = st.fixed_dictionaries(
    {"event": _EVENTS | _JSON},
    optional={"channel": _CHANNELS | _JSON, "data": _DATA | _DATA.map(json.dumps)},
).map(json.dumps)


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A frame of which a part was replaced."""
    text = draw(_VALID | _FORGED)
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, 400))))
    return text[:start] + draw(st.text(max_size=10)) + text[end:]


texts: st.SearchStrategy[str] = (
    _VALID | _FORGED | _mutated().filter(lambda text: text.isprintable())
)
"""Frames of Pusher's protocol: valid, forged and mutated ones."""

Deed: TypeAlias = Callable[[Peer], Awaitable[None]]


def _says(text: str) -> Deed:
    return lambda peer: peer.socket.send_message(text)


def _ignores(seconds: float) -> Deed:
    async def ignore(peer: Peer) -> None:
        # It notices a client that goes, and answers nothing.
        with trio.move_on_after(seconds):
            while True:
                await peer.socket.get_message()

    return ignore


def _serves(seconds: float) -> Deed:
    async def serve(peer: Peer) -> None:
        with trio.move_on_after(seconds):
            await peer.answer_pings()

    return serve


def _closes(code: int) -> Deed:
    return lambda peer: peer.close(code)


async def _goes(peer: Peer) -> None:
    await trio.aclose_forcefully(peer.stream)


async def _pings(peer: Peer) -> None:
    # It may have closed before.
    with suppress(ConnectionClosed, LocalProtocolError), trio.move_on_after(1):
        await peer.socket.ping()


def _complains(code: int) -> Deed:
    return lambda peer: peer.complain(code)


async def _enrols(peer: Peer) -> None:
    with trio.move_on_after(5):
        await peer.enrol()


def _sends(noise: bytes) -> Deed:
    return lambda peer: peer.stream.send_all(noise)


_CLOSES = st.sampled_from([1000, 1001, 1011, 4001, 4009, 4100, 4200, 4201])
_DEEDS = st.one_of(
    texts.map(_says),
    texts.map(_says),
    _VALID.map(_says),
    st.just(_enrols),
    st.sampled_from([0.0, 0.5, 5.0, 45.0]).map(_ignores),
    st.sampled_from([1.0, 45.0, 300.0]).map(_serves),
    st.just(_pings),
    st.binary(max_size=300).map(_sends),
    st.sampled_from([4000, 4001, 4009, 4100, 4200, 4301]).map(_complains),
    (_CLOSES | st.integers(3000, 4999)).map(_closes),
    st.just(_goes),
)

deeds: st.SearchStrategy[list[Deed]] = st.builds(
    # Most begin well: what begins with nonsense is left at once.
    lambda begin, then: [*begin, *then],
    st.sampled_from([[_enrols], [_enrols], [Peer.establish], []]),
    st.lists(_DEEDS, max_size=12),
)
"""What a server does on one connection, in any order."""


def doing(some: Sequence[Deed]) -> Script:
    """Make a script of deeds that goes in the end."""

    async def script(peer: Peer) -> None:
        for deed in some:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await deed(peer)

    return spoken(script)
