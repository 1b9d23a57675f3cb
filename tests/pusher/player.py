"""
One recorded connection, played by a server: what is said when, and what is answered.

Which connection is whose, and what comes of all, is `replaying`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
import trio_websocket  # noqa: TID251 - the server's side of the wire is ours to play

from bridge.pusher.websocket import Message
from tests.kit.scripted import Peer, Script
from tests.pusher.recorded import PING, SUBSCRIBE, Asked, Recorded


# A question is the recorded one if it comes as near to that one's moment.
_NEAR_SECONDS = 5.0

PATIENCE_SECONDS = 60.0
"""What a session may take longer than the recorded one did: jitter, other deadlines."""


class Player:
    """
    Plays one connection.

    Args:
        recorded: What was said on it.
        channel: The account's channel.
        left: Awaited when the moment has come at which the recorded client left.
    """

    def __init__(
        self, recorded: Recorded, channel: str, left: Callable[[], Awaitable[None]]
    ) -> None:
        self._recorded = recorded
        self._channel = channel
        self._left = left
        self._open_questions = list(recorded.asked)
        self._answered = {id(asked): trio.Event() for asked in recorded.asked}
        self._enrolled = False
        self._began_at = 0.0
        self._late_seconds = 0.0

    async def play(self, peer: Peer) -> None:
        """Say and answer everything, and end as it was ended."""
        self._began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, peer, nursery)
            # The client may be gone before everything is said.
            with suppress(trio_websocket.ConnectionClosed):
                await self._speak(peer)
                await self._end(peer)
            nursery.cancel_scope.cancel()

    def _due(self, at: float) -> float:
        opened_at = self._recorded.opened_at
        assert opened_at is not None
        return self._began_at + at - opened_at + self._late_seconds

    async def _speak(self, peer: Peer) -> None:
        """Say what answers nothing, behind the enrolment if it came behind that."""
        enrolment = [
            asked
            for asked in self._recorded.asked
            if asked.event == SUBSCRIBE and asked.answers
        ][:1]
        for heard in self._recorded.heard:
            if enrolment and heard.order > enrolment[0].answers[0].order:
                asked = enrolment.pop()
                with trio.move_on_after(PATIENCE_SECONDS):
                    await self._answered[id(asked)].wait()
                late = trio.current_time() - self._due(asked.answers[0].at)
                self._late_seconds = max(0.0, late)
            await trio.sleep_until(self._due(heard.at))
            await peer.socket.send_message(heard.message)

    async def _end(self, peer: Peer) -> None:
        recorded = self._recorded
        if recorded.ended_at is not None:
            await trio.sleep_until(self._due(recorded.ended_at))
            if recorded.code is not None:
                await peer.close(recorded.code)
            # Else the stream just ends, as it does when this returns.
            return
        if recorded.closed_at is not None:
            await trio.sleep_until(self._due(recorded.closed_at))
        await self._left()
        await trio.sleep(PATIENCE_SECONDS)

    async def _listen(self, peer: Peer, nursery: trio.Nursery) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                event = (await peer.read())["event"]
                if event in {PING, SUBSCRIBE}:
                    nursery.start_soon(self._answer, peer, event)
        nursery.cancel_scope.cancel()

    async def _answer(self, peer: Peer, event: str) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            asked_at = trio.current_time()
            asked = self._recognised(event)
            # A client that left right behind its ping didn't hear the answer.
            left = event == PING and not self._recorded.aborted
            if asked is not None and (asked.answers or not left):
                for answer in asked.answers:
                    await trio.sleep_until(asked_at + answer.at - asked.at)
                    await peer.socket.send_message(answer.message)
                self._enrolled |= event == SUBSCRIBE and bool(asked.answers)
                self._answered[id(asked)].set()
            elif asked_at <= self._due(self._recorded.alive_until):
                await peer.socket.send_message(self._usual(event))

    def _recognised(self, event: str) -> Asked | None:
        """Find the recorded question that this is, if it is one."""
        now = trio.current_time()
        for asked in self._open_questions:
            near = abs(self._due(asked.at) - now) <= _NEAR_SECONDS
            if asked.event == event and (
                near or (event == SUBSCRIBE and not self._enrolled)
            ):
                self._open_questions.remove(asked)
                return asked
        return None

    def _usual(self, event: str) -> Message:
        if event == PING:
            return json.dumps({"event": "pusher:pong", "data": {}})
        return json.dumps(
            {
                "event": "pusher_internal:subscription_succeeded",
                "channel": self._channel,
            }
        )


def refusing(status: int) -> Script:
    """Make a script that refuses the upgrade with an HTTP status."""

    async def script(stream: trio.abc.Stream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        await stream.send_all(
            f"HTTP/1.1 {status} Recorded\r\nContent-Length: 0\r\n\r\n".encode()
        )

    return script
