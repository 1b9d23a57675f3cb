"""
Plays the server's side of a recording to a real session, and tells what came of it.

Streams are memory streams and both ends speak real WebSocket, so under
`autojump_clock` a recorded hour passes at once. Each attempt to connect gets the next
recorded connection: a refusal, or a server that says what was said then, at the same
time after the opening, and ends as it was ended. What answers something waits until
it is asked; a question that the recording doesn't know (of a later version) gets the
usual answer, for as long as the recorded server lived.
"""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from bridge.errors import InvalidEventError, RefusedError
from bridge.job_status import TERMINAL_STATUSES, parse
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.statistics import Statistics
from bridge.pusher.websocket import Connection, connect_websocket
from bridge.settings import PusherSettings
from tests.kit.scripted import APP_KEY, Script, spoken
from tests.pusher.ear import Ear
from tests.pusher.player import PATIENCE_SECONDS, Player, refusing
from tests.pusher.recorded import Recording, Signed, read


# The wall clock at the start: any but zero, which would be no time at all.
_EPOCH_SECONDS = 1_700_000_000

# A session is stopped so much later than the recorded one: its own steps take none
# of the recorded time, but they may come in another order.
_SLACK_SECONDS = 1.0


@dataclass
class Replayed:
    """
    What a session made of a recording.

    Attributes:
        events: What it delivered.
        statistics: What it counted.
        ear: What its listener was told.
        refusal: What ended it, if it was refused for good.
        unplayed: How many recorded connections it never asked for.
    """

    events: list[ChannelEvent]
    statistics: Statistics
    ear: Ear
    refusal: RefusedError | None = None
    unplayed: int = 0

    def summary(self) -> dict[str, Any]:
        """Give what a test case expects, as JSON has it."""
        statistics = self.statistics
        return {
            "connects": dict(sorted(statistics.connects.items())),
            "events": [outcome_of(event) for event in self.events],
            "other_events": statistics.other_events,
            "unrecognised": statistics.unrecognised,
            "server_errors": statistics.server_errors,
            "authorization_failures": statistics.authorization_failures,
            "subscriptions": len(self.ear.subscriptions),
            "interruptions": [
                {"cause": str(each.cause), "close_code": each.close_code}
                for each in self.ear.interruptions
            ],
            "refused": None if self.refusal is None else self.refusal.code,
        }


def outcome_of(event: ChannelEvent) -> str:
    """Tell what the bridge makes of an event: its status and changes, or a reason."""
    try:
        status = parse(event.data)
    except InvalidEventError as error:
        return f"dead letter: {error.reason}"
    return ", ".join([status.status, *status.normalized])


async def replay(path: Path, **which: Any) -> Replayed:
    """
    Run a session against a recording, up to the end of it.

    Args:
        path: The recording.
        which: As `recorded.read` takes it.

    Returns:
        What came of it.
    """
    recording = read(path, **which)
    async with trio.open_nursery() as servers:
        server = _Server(recording, servers)
        listening = _Listening()
        session = Session(
            recording.client_id,
            _settings(recording),
            server,
            listening.deliver,
            listener=listening.ear,
            has_jobs=lambda: bool(listening.running),
            connect=server.connect,
            clock=lambda: int((_EPOCH_SECONDS + trio.current_time()) * 1_000_000),
            jitter=random.Random(7),
        )
        replayed = Replayed(listening.events, session.statistics, listening.ear)
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                try:
                    await session.run()
                except RefusedError as error:
                    replayed.refusal = error
                    server.finished.set()

            nursery.start_soon(run)
            await server.finished.wait()
            nursery.cancel_scope.cancel()
        replayed.unplayed = server.unplayed
        servers.cancel_scope.cancel()
    return replayed


def replayed(path: Path, **which: Any) -> Replayed:
    """Do as `replay`, in no time, from a test that isn't async."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(partial(replay, path, **which), clock=clock)


def _settings(recording: Recording) -> PusherSettings:
    known = {each.name for each in msgspec.structs.fields(PusherSettings)}
    numbers = {
        name: value for name, value in recording.settings.items() if name in known
    }
    scheme = recording.connections[0].scheme
    return PusherSettings(url=f"{scheme}://replay.test", app_key=APP_KEY, **numbers)


class _Listening:
    """Whom the session delivers to."""

    def __init__(self) -> None:
        self.events: list[ChannelEvent] = []
        self.ear = Ear()
        self.running: set[str] = set()

    def deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        """Keep events, and know of running jobs as the bridge does."""
        assert received_at_us > 0
        self.events += events
        for event in events:
            try:
                status = parse(event.data)
            except InvalidEventError:
                continue
            if status.status in TERMINAL_STATUSES:
                self.running.discard(status.request_id)
            else:
                self.running.add(status.request_id)


class _Server:
    """The other end of all connections, and the auth endpoint."""

    def __init__(self, recording: Recording, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._channel = f"private-client.{recording.client_id}"
        self._connections = iter(recording.connections)
        self._signatures: list[Signed] = []
        self._max_message_bytes = _settings(recording).max_message_bytes
        self.unplayed = len(recording.connections)
        self.finished = trio.Event()

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Stand in for the session's `Connect`; TLS is left out."""
        async with connect_websocket(
            url.replace("wss:", "ws:"),
            max_message_bytes=self._max_message_bytes,
            open_stream=self._open_stream,
        ) as connection:
            yield connection

    async def authorize(self, socket_id: str, channel: str) -> str:
        """Answer as the endpoint did on this connection, then as it usually does."""
        assert channel == self._channel
        await trio.lowlevel.checkpoint()
        if self._signatures:
            signed = self._signatures.pop(0)
            if signed.answered_at is None:
                await trio.sleep_forever()
            await trio.sleep(signed.answered_at - signed.asked_at)
            if signed.error is not None:
                raise signed.error
        return f"{APP_KEY}:signature-for-{socket_id}"

    async def _open_stream(self, *_: object) -> trio.abc.Stream:
        recorded = next(self._connections, None)
        if recorded is None:
            self.finished.set()
            await trio.sleep_forever()
        self.unplayed -= 1
        self._signatures = list(recorded.signatures)
        settled_at = recorded.opened_at
        if settled_at is None:
            settled_at = recorded.ended_at
        if settled_at is None:
            await self._left()
            await trio.sleep_forever()
        await trio.sleep(settled_at - recorded.dialled_at)
        if recorded.opened_at is not None:
            script = spoken(Player(recorded, self._channel, self._left).play)
        elif recorded.code is not None:
            script = refusing(recorded.code)
        else:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "recorded")
        client, server = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, script, server)
        return client

    async def _left(self) -> None:
        """Note that the recorded client left; from the last one it left for good."""
        await trio.sleep(PATIENCE_SECONDS if self._signatures else _SLACK_SECONDS)
        if not self.unplayed:
            self.finished.set()

    async def _serve(self, script: Script, stream: trio.abc.Stream) -> None:
        try:
            await script(stream)
        finally:
            await trio.aclose_forcefully(stream)
