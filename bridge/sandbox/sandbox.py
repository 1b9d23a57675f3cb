"""
One sandbox: its parts brought together, started and stopped.

Everything that a part does stands in the part's own module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from bridge.sandbox import application
from bridge.sandbox.addresses import Addresses
from bridge.sandbox.answers import Answers
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.control import Control, Doors
from bridge.sandbox.deliveries import Deliveries
from bridge.sandbox.dryapi import DryApi
from bridge.sandbox.endpoint import Endpoint
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.jobs import JobBook
from bridge.sandbox.previews import Pictures, paint
from bridge.sandbox.publisher import ChannelPublisher, Publisher
from bridge.sandbox.pusher_api import PusherApi
from bridge.sandbox.remote import RemotePublisher
from bridge.sandbox.server import Server, open_listeners
from bridge.sandbox.simulation import Simulation
from bridge.sandbox.statistics import Statistics
from bridge.sandbox.webhooks import Webhooks


__all__ = ["Sandbox"]


class Sandbox:
    """
    A dryAPI on this machine.

    Attributes:
        config: What it was told.
        statistics: What it has done.
        accounts: Which tokens are good, and for which clients each.
        answers: What it answers on command, and what it was asked.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.statistics = Statistics()
        self.accounts = {config.api_token: {config.client_id}}
        self.answers = Answers()
        self._simulation: Simulation | None = None
        self._endpoint: Endpoint | None = None
        # What runs beside the server.
        self._beside: list[Callable[[], Awaitable[None]]] = []
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
            server = self._assemble(base, pictures)
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.serve, listeners)
                    for run in self._beside:
                        nursery.start_soon(run)
                    task_status.started(base)
        finally:
            for listener in listeners:
                listener.socket.close()

    def _assemble(self, base: str, pictures: Pictures) -> Server:
        config = self.config
        addresses = Addresses(config.public_url or base, config.app)
        book = JobBook(config, pictures, addresses, self.statistics)
        channels = Channels()
        publisher: Publisher
        if config.pusher_url is None:
            self._endpoint = Endpoint(config, channels, self.statistics)
            publisher = ChannelPublisher(config.channel, channels, self.statistics)
        else:
            publisher = RemotePublisher(config, self.statistics)
        deliveries = Deliveries(config, self.statistics.webhooks)
        webhooks = Webhooks(addresses, deliveries.send)
        sends = config.webhook_url is not None
        simulation = Simulation(
            config, book, publisher, *([webhooks.announce] if sends else [])
        )
        api = DryApi(
            config,
            book,
            simulation,
            pictures,
            addresses,
            statistics=self.statistics,
            accounts=self.accounts,
        )
        doors = Doors(
            simulation=simulation,
            statistics=self.statistics,
            book=book,
            status_faults=api.faults,
            accounts=self.accounts,
            answers=self.answers,
            endpoint=self._endpoint,
            webhooks=webhooks if sends else None,
            deliveries=deliveries,
        )
        routes = [*api.routes(), *Control(doors).routes()]
        if config.pusher_url is None:
            routes += PusherApi(config, channels, self.statistics).routes()
        self._simulation = simulation
        self._beside = [simulation.run, *([deliveries.run] if sends else [])]
        built = self.answers.around(application.build(routes))
        return Server(built, self._endpoint)

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
