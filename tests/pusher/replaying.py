"""
Plays the server's side of a recording to a real session.

Streams are memory streams and both ends speak real WebSocket, so under a mock clock a
recorded hour passes at once. Each dial gets the next recorded connection: a refusal, or
a server that sends what it sent, as long after the opening, and ends as it was ended.
Pings and subscriptions are answered when they come, while the recorded server lived.
docs/recording.md describes the lines.
"""

from __future__ import annotations

import errno
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing

from bridge.errors import AuthorizationError, RefusedError
from bridge.pusher.interruption import Interruption
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.session import Session
from bridge.pusher.statistics import Statistics
from bridge.pusher.websocket import Connection, connect_websocket
from bridge.settings import PusherSettings
from tests.kit.scripted import APP_KEY, Peer, end_at_once, spoken
from tests.rules.intake import Outlet


__all__ = ["Replayed", "lines_of", "replayed", "text_of"]

_Line = dict[str, Any]

# A session is stopped so much later than the recorded one: its own steps take no time,
# but a wait before another request for a signature has another jitter.
_SLACK_SECONDS = 60.0

_PONG = "pusher:pong"
_ACKNOWLEDGED = "pusher_internal:subscription_succeeded"
_EPOCH_US = 1_700_000_000_000_000


@dataclass
class Replayed:
    """What a session made of a recording."""

    statistics: Statistics | None = None
    events: list[ChannelEvent] = field(default_factory=list)
    subscriptions: int = 0
    interruptions: list[Interruption] = field(default_factory=list)
    refused: int | str | None = None
    unplayed: int = 0

    def subscribed(self, _: int) -> None:
        """Count a subscription."""
        self.subscriptions += 1

    def interrupted(self, interruption: Interruption) -> None:
        """Keep an interruption."""
        self.interruptions.append(interruption)

    def deliver(self, events: Sequence[ChannelEvent], _: int) -> None:
        """Keep events."""
        self.events += events

    def summary(self) -> dict[str, Any]:
        """Give what a test expects, as JSON has it."""
        statistics = self.statistics
        assert statistics is not None
        return {
            "connects": dict(sorted(statistics.connects.items())),
            "events": [_outcome(event) for event in self.events],
            "other_events": statistics.other_events,
            "unrecognised": statistics.unrecognised,
            "server_errors": statistics.server_errors,
            "authorization_failures": statistics.authorization_failures,
            "subscriptions": self.subscriptions,
            "interruptions": [
                {"cause": str(each.cause), "close_code": each.close_code}
                for each in self.interruptions
            ],
            "refused": self.refused,
        }


def _outcome(event: ChannelEvent) -> str:
    """Give the event's status and changes, or why it is a dead letter."""
    [record] = Outlet().take(event)
    headers = {name: value.decode() for name, value in record.extra}
    if record.status is None:
        return f"dead letter: {headers['bridge_reason']}"
    changes = headers.get("bridge_normalized", "")
    return ", ".join(filter(None, [record.status, *changes.split(",")]))


def lines_of(path: Path) -> list[_Line]:
    """Read the lines of the last run; a killed process leaves half of one."""
    lines: list[_Line] = []
    for text in path.read_text("ascii").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        lines = [line] if line["kind"] == "started" else [*lines, line]
    return lines


def text_of(line: _Line) -> str:
    """Put a message together again."""
    text = line["text"]
    parts = [text] if isinstance(text, str) else text
    return "".join(
        each if isinstance(each, str) else each[0] * each[1] for each in parts
    )


def replayed(path: Path) -> Replayed:
    """Run a session against the last run of a recording, with its first account."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_replay, lines_of(path), clock=clock)


async def _replay(lines: list[_Line]) -> Replayed:
    known = {each.name for each in msgspec.structs.fields(PusherSettings)}
    numbers = {name: n for name, n in lines[0]["settings"].items() if name in known}
    settings = PusherSettings(url="ws://replay.test", app_key=APP_KEY, **numbers)
    client_id = next(line["client"] for line in lines if "client" in line)
    lines = [line for line in lines if line.get("client", client_id) == client_id]
    result = Replayed()
    async with trio.open_nursery() as servers:
        server = _Server(lines, f"private-client.{client_id}", settings, servers)
        session = Session(
            client_id,
            settings,
            server,
            result.deliver,
            listener=result,
            connect=server.connect,
            clock=lambda: _EPOCH_US + int(trio.current_time() * 1_000_000),
            jitter=random.Random(7),
        )
        result.statistics = session.statistics
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                try:
                    await session.run()
                except RefusedError as error:
                    result.refused = error.code
                    server.finished.set()

            nursery.start_soon(run)
            await server.finished.wait()
            nursery.cancel_scope.cancel()
        result.unplayed = len(server.connections)
        servers.cancel_scope.cancel()
    return result


class _Server:
    """The other end of all connections, and the auth endpoint."""

    def __init__(
        self,
        lines: list[_Line],
        channel: str,
        settings: PusherSettings,
        nursery: trio.Nursery,
    ) -> None:
        numbers = dict.fromkeys(
            one["connection"] for one in lines if "connection" in one
        )
        self.connections = [
            [one for one in lines if one.get("connection") == number]
            for number in numbers
        ]
        self.finished = trio.Event()
        self._channel = channel
        self._max_message_bytes = settings.max_message_bytes
        self._nursery = nursery
        self._signatures: list[_Line] = []

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Dial the next recorded connection."""
        async with connect_websocket(
            url,
            max_message_bytes=self._max_message_bytes,
            open_stream=self._open_stream,
        ) as connection:
            yield connection

    async def authorize(self, socket_id: str, _: str) -> str:
        """Answer as the endpoint did on this connection, then with a signature."""
        await trio.lowlevel.checkpoint()
        line = self._signatures.pop(0) if self._signatures else None
        if line is not None and line["kind"] == "not_authorized":
            raise AuthorizationError(
                line["message"],
                status=line["status"],
                retry_after_seconds=line["retry_after_seconds"],
                terminal=line["terminal"],
            )
        return f"{APP_KEY}:signature-for-{socket_id}"

    async def _open_stream(self, *_: object) -> trio.abc.Stream:
        if not self.connections:
            self.finished.set()
            await trio.sleep_forever()
        lines = self.connections.pop(0)
        kinds = {line["kind"]: line for line in lines}
        self._signatures = [one for one in lines if one["kind"].endswith("authorized")]
        if "opened" in kinds:
            script = spoken(partial(self._play, lines))
        elif "ended" not in kinds:
            await trio.sleep_forever()
        elif kinds["ended"]["code"] is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "recorded")
        else:
            script = end_at_once
        client, server = trio.testing.memory_stream_pair()
        self._nursery.start_soon(script, server)
        return client

    async def _play(self, lines: list[_Line], peer: Peer) -> None:
        """Send what was sent, when it was sent; return where the server ended it."""
        opened_at = next(line["at"] for line in lines if line["kind"] == "opened")
        received = [line["at"] for line in lines if line["kind"] == "received"]
        aborted = any(line["kind"] == "aborted" for line in lines)
        alive = trio.CancelScope()
        subscribed = trio.Event()
        offset = trio.current_time() - opened_at
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer, peer, alive, subscribed)
            for line in lines:
                if line["kind"] == "ended":
                    await trio.sleep_until(line["at"] + offset)
                    nursery.cancel_scope.cancel()
                if line["kind"] != "received":
                    continue
                event = json.loads(text_of(line)).get("event")
                if event == _ACKNOWLEDGED and not subscribed.is_set():
                    await subscribed.wait()
                    offset = trio.current_time() - line["at"]
                elif event not in {_PONG, _ACKNOWLEDGED}:
                    await trio.sleep_until(line["at"] + offset)
                    await peer.socket.send_message(text_of(line))
            if aborted:
                await trio.sleep_until(max(received) + offset)
                alive.cancel()
            if not self.connections:
                await trio.sleep_until(lines[-1]["at"] + offset + _SLACK_SECONDS)
                self.finished.set()
        for line in lines:
            if line["kind"] == "ended" and line["code"] is not None:
                await peer.close(line["code"])
        await trio.aclose_forcefully(peer.stream)

    async def _answer(
        self, peer: Peer, alive: trio.CancelScope, subscribed: trio.Event
    ) -> None:
        """Answer pings and subscriptions until the recorded server fell silent."""
        with alive:
            while True:
                event = json.loads(await peer.socket.get_message())["event"]
                if event == "pusher:ping":
                    await peer.say(_PONG, data={})
                elif event == "pusher:subscribe":
                    await peer.say(_ACKNOWLEDGED, channel=self._channel)
                    subscribed.set()
        # The connection stays; nobody answers.
        await trio.sleep_forever()
