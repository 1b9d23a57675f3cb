"""A scripted server that subscribes a session, does something, and is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tests.kit.scripted import Peer, Script, spoken


def lost(after: Callable[[Peer], Awaitable[None]], *, code: int = 4200) -> Script:
    """Make a server that subscribes at 1 s, does something, and closes."""

    async def script(peer: Peer) -> None:
        await trio.sleep_until(1)
        await peer.enrol()
        await after(peer)
        await peer.close(code)

    return spoken(script)
