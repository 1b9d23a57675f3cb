"""
One sandbox: its parts brought together, started and stopped.

Everything that a part does stands in the part's own module.
"""

from __future__ import annotations

import trio

from bridge.sandbox import application
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.control import Control
from bridge.sandbox.dryapi import DryApi
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.jobs import JobBook
from bridge.sandbox.previews import paint
from bridge.sandbox.publisher import ChannelPublisher, Publisher
from bridge.sandbox.pusher_api import PusherApi
from bridge.sandbox.remote import RemotePublisher
from bridge.sandbox.server import Server, open_listeners
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import Statistics
from bridge.sandbox.websocket import Endpoint


__all__ = ["Sandbox"]


class Sandbox:
    """
    A dryAPI on this machine.

    Attributes:
        config: What it was told.
        statistics: What it has done.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.statistics = Statistics()
        self._simulation: Simulation | None = None
        self._endpoint: Endpoint | None = None
        self._scope = trio.CancelScope()

    async def serve(
        self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Serve until cancelled or stopped.

        Cancelling ends every connection at once; `stop` takes leave first.

        Args:
            task_status: Gets the base address, `http://host:port`.

        Raises:
            SandboxError: The port can't be bound, or the Pusher server refuses.
        """
        listeners = await open_listeners(self.config.listen)
        try:
            pictures = await trio.to_thread.run_sync(paint, self.config.preview_bytes)
            base = _base_address(listeners[0])
            addresses = Addresses(self.config.public_url or base, self.config.app)
            book = JobBook(self.config, pictures, addresses, self.statistics)
            channels = Channels()
            publisher: Publisher
            if self.config.pusher_url is None:
                self._endpoint = Endpoint(self.config, channels, self.statistics)
                publisher = ChannelPublisher(
                    self.config.channel, channels, self.statistics
                )
            else:
                publisher = RemotePublisher(self.config, self.statistics)
            simulation = Simulation(self.config, book, publisher)
            api = DryApi(self.config, book, simulation, pictures, addresses)
            routes = [*api.routes(), *Control(simulation, self.statistics).routes()]
            if self.config.pusher_url is None:
                pusher_api = PusherApi(self.config, channels, self.statistics)
                routes += pusher_api.routes()
            server = Server(application.build(routes), self._endpoint)
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.serve, listeners)
                    nursery.start_soon(simulation.run)
                    self._simulation = simulation
                    task_status.started(base)
        finally:
            for listener in listeners:
                listener.socket.close()

    async def set_rate(self, rate: float) -> None:
        """
        Change the rate of simulated events; see `Simulation.set_rate`.

        Raises:
            SandboxError: It isn't running.
        """
        if self._simulation is None:
            raise SandboxError("the sandbox isn't running")
        await self._simulation.set_rate(rate)

    async def stop_emission(self) -> Statistics:
        """
        Stop all simulated events: none follows once this returns.

        Returns:
            The counters, final as far as events are concerned.

        Raises:
            SandboxError: It isn't running.
        """
        await self.set_rate(0)
        return self.statistics

    async def stop(self) -> None:
        """Close every connection as soketi does on SIGTERM, then end `serve`."""
        if self._endpoint is not None:
            await self._endpoint.stop()
        self._scope.cancel()


def _base_address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
