"""A scripted server that does what soketi does to a subscription, and grows deaf."""

from __future__ import annotations

import math

import trio

from tests.kit.scripted import Peer, Script, spoken


def soketi_alike(
    peers: list[Peer],
    *events_at: float,
    deaf_from: float = math.inf,
    closes_at: float = math.inf,
) -> Script:
    """Make a soketi that publishes at some moments, grows deaf at one and closes."""

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await trio.sleep_until(1)
        await peer.enrol()

        async def publish() -> None:
            for at in events_at:
                await trio.sleep_until(at)
                await peer.publish()

        async def grow_deaf() -> None:
            await trio.sleep_until(deaf_from)
            peer.acknowledges = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            nursery.start_soon(grow_deaf)
            with trio.move_on_at(closes_at):
                await peer.answer_pings()
            await peer.close(4200)

    return spoken(script)
