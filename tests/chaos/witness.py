"""A plain subscriber beside the bridge, which shows what soketi delivers.

Owns what it heard and while of which it was subscribed. It shares nothing with the
bridge's session, and no fault but soketi's own touches it: what it missed while it
was subscribed, soketi dropped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import trio
from wsproto.utilities import ProtocolError

from tests.chaos.ground import Emission
from tests.kit.publisher import Soketi
from tests.sandbox.client import Client, connect


__all__ = ["Hearing", "Witness"]

_RETRY_SECONDS = 0.05

# soketi ends a connection to which it has sent nothing for 120 s. Its client here
# takes 10 s of silence for the end.
_PING_SECONDS = 5.0

_OPENING_SECONDS = 5.0

# soketi went away, or stands still.
_ENDS = (OSError, trio.BrokenResourceError, trio.TooSlowError, ProtocolError)


@dataclass
class Hearing:
    """From when to when it heard everything, in seconds since the epoch."""

    begun: float
    ended: float


class Witness:
    """
    The subscriber.

    Args:
        soketi: Where it subscribes.
        channel: To what.

    Attributes:
        heard: The numbers of the events that it heard.
        hearings: While of which it was subscribed.
    """

    def __init__(self, soketi: Soketi, channel: str) -> None:
        self._soketi = soketi
        self._channel = channel
        self.heard: set[int] = set()
        self.hearings: list[Hearing] = []

    async def run(self) -> None:
        """Listen, and listen again, until cancelled."""
        base = self._soketi.url.replace("ws://", "http://")
        while True:
            try:
                target = f"/app/{self._soketi.app.key}?protocol=7"
                async with connect(base, target) as client:
                    await self._listen(client)
            except* _ENDS:
                pass
            await trio.sleep(_RETRY_SECONDS)

    def missed(self, emitted: list[Emission]) -> tuple[int, list[Emission]]:
        """Tell how much was emitted while it listened, and what of it it missed."""
        within = []
        hearings = iter(self.hearings)
        hearing = next(hearings, None)
        for each in emitted:
            while hearing is not None and hearing.ended < each.ended:
                hearing = next(hearings, None)
            if hearing is not None and hearing.begun <= each.begun:
                within.append(each)
        return len(within), [each for each in within if each.number not in self.heard]

    async def _listen(self, client: Client) -> None:
        with trio.fail_after(_OPENING_SECONDS):
            first = await client.receive()
            if not first or first["event"] != "pusher:connection_established":
                return
            socket_id = json.loads(first["data"])["socket_id"]
            auth = self._soketi.sign_channel(socket_id, self._channel)
            channel = {"channel": self._channel, "auth": auth}
            await client.send("pusher:subscribe", channel)
            answer = await client.receive()
            if not answer or "subscription_succeeded" not in answer["event"]:
                return
        now = time.time()
        self.hearings.append(Hearing(now, now))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_alive, client)
            while (message := await client.receive()) is not None:
                self.hearings[-1].ended = time.time()
                if message.get("channel") == self._channel:
                    self.heard.add(json.loads(message["data"])["number"])
            nursery.cancel_scope.cancel()


async def _keep_alive(client: Client) -> None:
    while True:
        await trio.sleep(_PING_SECONDS)
        try:
            await client.send("pusher:ping")
        except (trio.BrokenResourceError, ProtocolError):
            return  # who reads will see the end
