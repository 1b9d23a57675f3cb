"""
Every WebSocket connection together: who is let in, and who is sent away.

What one connection sends and receives is in `websocket`.
"""

from __future__ import annotations

import trio
from starlette.types import Scope

from bridge.sandbox import frames
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.faults import SocketFaults
from bridge.sandbox.statistics import Statistics
from bridge.sandbox.websocket import LINGER_SECONDS, Connection, reset_when_closed


__all__ = ["Endpoint"]

# uWebSockets gives a request this long to arrive.
_HANDSHAKE_SECONDS = 10.0


class Endpoint:
    """
    Every connection at `/app/{key}`.

    Attributes:
        faults: Whether new ones are turned away.
    """

    def __init__(
        self, config: SandboxConfig, channels: Channels, statistics: Statistics
    ) -> None:
        self.faults = SocketFaults()
        self._config = config
        self._channels = channels
        self._statistics = statistics
        self._connections: set[Connection] = set()
        self._stopping = False
        self._gone = trio.Event()

    async def serve(self, scope: Scope, stream: trio.abc.Stream, data: bytes) -> None:
        """Serve one client to its end; see `bridge.http.server.Upgrade`."""
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        refusal = self.faults.refusal()
        self._statistics.connections_refused += refusal is not None
        if refusal == "reset":
            reset_when_closed(stream)
            return
        connection = Connection(stream, self._config, self._channels, self._statistics)
        with trio.move_on_after(_HANDSHAKE_SECONDS) as patience:
            path = await connection.accept(scope, data, is_allowed=refusal != "http")
        if patience.cancelled_caught or path is None:
            return
        self._connections.add(connection)
        self._statistics.connections += 1
        self._statistics.connections_total += 1
        try:
            if self._stopping or refusal is not None:
                connection.refuse(4200, "Server closed. Please reconnect shortly.")
            elif path != self._config.app_key:
                connection.refuse(4001, f"App key {path} does not exist.")
            else:
                connection.offer(frames.established(connection.socket_id))
            await connection.run()
        finally:
            self._statistics.connections -= 1
            self._connections.discard(connection)
            self._check_gone()

    def drop(self, code: int | None, message: str | None) -> int:
        """
        End every connection now.

        Args:
            code: What the close frame says; None ends without one, by a reset that
                loses what is under way.
            message: What a `pusher:error` before the close frame says; None for none.

        Returns:
            How many were ended.
        """
        for connection in self._connections:
            if code is None:
                connection.reset()
            elif message is None:
                connection.close(code)
            else:
                connection.refuse(code, message)
        return len(self._connections)

    async def stop(self) -> None:
        """Send every client away with 4200 and wait until they are gone."""
        self._stopping = True
        for connection in self._connections:
            connection.refuse(4200, "Server closed. Please reconnect shortly.")
        self._check_gone()
        with trio.move_on_after(LINGER_SECONDS):
            await self._gone.wait()

    def _check_gone(self) -> None:
        if self._stopping and not self._connections:
            self._gone.set()
