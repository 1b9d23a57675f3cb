"""Real soketi 1.6.1, the server that dryAPI runs.

Owns soketi's configuration, its start and its end. Publishing through any soketi
belongs to `publisher`, what the packages are to `downloads`.

    with SoketiServer() as soketi:               # synchronously
    async with start_soketi() as soketi:         # in trio
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio
import trio.from_thread

from tests.kit import downloads
from tests.kit.process import (
    ChildProcess,
    check_port_free,
    free_ports,
    start_all,
    stop_all,
)
from tests.kit.publisher import App, Soketi


__all__ = ["SoketiServer", "start_soketi"]

# Measured: 0.7 to 3 s. Below pytest's 60 s, so that the error with the log's tail
# comes first.
_START_DEADLINE_SECONDS = 30.0

# Measured: 3.2 s, its own grace for connections.
_STOP_GRACE_SECONDS = 6.0

# At the end of a run nobody is connected any more and soketi holds no data, so
# its 3.2 s would be waited for nothing; half a second lets it close its sockets.
_CLOSE_GRACE_SECONDS = 0.5

# soketi reads its options from variables with this prefix as well.
_VARIABLES_PREFIX = "SOKETI_"


class SoketiServer(Soketi):
    """A soketi of our own, for one run.

    Entering it as a context manager starts it; leaving it ends it. In between it
    may be stopped, killed, paused and started again on the same port.
    """

    def __init__(
        self,
        app: App | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        port: int | None = None,
        progress: downloads.Progress = downloads.to_stderr,
    ) -> None:
        program = downloads.node()
        packages = downloads.fetch_soketi(progress)
        if port is None:
            (port,) = free_ports(1)
        super().__init__(f"ws://127.0.0.1:{port}", app or App())
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-soketi-"))
        config = self._folder / "soketi.json"
        config.write_text(json.dumps({**self._config(), **(options or {})}))
        entry = packages / "node_modules" / ".bin" / "soketi"
        self._process = ChildProcess(
            "soketi",
            [program, entry, "start", f"--config={config}"],
            log=self._folder / "soketi.log",
            cwd=self._folder,  # it would read a .env file from where it stands
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(_VARIABLES_PREFIX)
            },
            scratch=self._folder,
            ready=self._is_ready,
        )

    def _is_ready(self, _: ChildProcess) -> bool:
        return self.answers()

    def _config(self) -> dict[str, Any]:
        unlimited = (
            "maxConnections",
            "maxBackendEventsPerSecond",
            "maxClientEventsPerSecond",
            "maxReadRequestsPerSecond",
        )
        app = {
            "id": self.app.id,
            "key": self.app.key,
            "secret": self.app.secret,
            "enabled": True,
            "enableClientMessages": True,
            "webhooks": [],
            **dict.fromkeys(unlimited, -1),
        }
        metrics_port, cluster_port = free_ports(2)
        return {
            "debug": False,
            # Without it soketi listens on all addresses, whatever its log says.
            "host": "127.0.0.1",
            "port": self._port,
            # A metrics port is opened even when metrics are off.
            "metrics.host": "127.0.0.1",
            "metrics.port": metrics_port,
            # It looks for others of its kind, by broadcast into the local network
            # unless it is given one address to ask, and that is its own.
            "cluster.address": "127.0.0.1",
            "cluster.unicast": "127.0.0.1",
            "cluster.port": cluster_port,
            "appManager.array.apps": [app],
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs (paused too)."""
        return self._process.running

    def start(self, *, checkpoint: Callable[[], None] = lambda: None) -> None:
        """Start it if it doesn't run, and wait until it answers."""
        if self._process.running:
            return
        check_port_free(self._port)
        start_all(
            [self._process],
            deadline_seconds=_START_DEADLINE_SECONDS,
            checkpoint=checkpoint,
        )

    def stop(self) -> None:
        """End it with SIGTERM, in 3.2 s: its clients get its farewell."""
        stop_all([self._process], grace_seconds=_STOP_GRACE_SECONDS)

    def kill(self) -> None:
        """Kill it: its clients' connections break without a word."""
        self._process.kill()

    def pause(self) -> None:
        """Let it stand still with its connections open."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on if it is paused."""
        self._process.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it within half a second, and remove its files."""
        stop_all([self._process], grace_seconds=_CLOSE_GRACE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)


@asynccontextmanager
async def start_soketi(
    app: App | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    progress: downloads.Progress = downloads.to_stderr,
) -> AsyncIterator[SoketiServer]:
    """Start a soketi of our own from trio, and end it with the block."""
    server = await trio.to_thread.run_sync(
        lambda: SoketiServer(app, options, progress=progress)
    )
    try:
        await trio.to_thread.run_sync(
            lambda: server.start(checkpoint=trio.from_thread.check_cancelled)
        )
        yield server
    finally:
        # Shielded, since a cancelled owner must still end its server; close()
        # has its own deadlines.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.close)
