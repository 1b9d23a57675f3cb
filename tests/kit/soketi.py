"""Real soketi 1.6.1, the server that dryAPI runs.

with SoketiServer() as soketi:
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit import npm, wheels
from tests.kit.process import (
    ChildProcess,
    ChildServer,
    environment_without,
    free_ports,
    stop_all,
)
from tests.kit.publisher import App, Soketi


# At the end of a run no client is connected and soketi holds no data, so
# its 3.2 s would be waited for nothing; half a second lets it close its sockets.
_CLOSE_GRACE_SECONDS = 0.5

# soketi reads its options from variables with this prefix as well.
_VARIABLES_PREFIX = "SOKETI_"


class SoketiServer(ChildServer, Soketi):
    """A soketi of our own, for one run; it is stopped in 3.2 s, with a farewell."""

    _stop_grace_seconds = 6.0

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, max_connections: int = -1
    ) -> None:
        program = wheels.node()
        packages = npm.fetch_soketi()
        (port,) = free_ports(1)
        super().__init__(f"ws://127.0.0.1:{port}", App())
        self._max_connections = max_connections
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-soketi-"))
        config = self._folder / "soketi.json"
        config.write_text(json.dumps({**self._config(), **(options or {})}))
        entry = packages / "node_modules" / ".bin" / "soketi"
        process = ChildProcess(
            "soketi",
            [program, entry, "start", f"--config={config}"],
            log=self._folder / "soketi.log",
            cwd=self._folder,  # it would read a .env file from where it stands
            env=environment_without(_VARIABLES_PREFIX),
            scratch=self._folder,
            ports=[port],
            ready=self._is_ready,
        )
        self._processes = [process]

    def _is_ready(self, _: ChildProcess) -> bool:
        return self.answers()

    def _config(self) -> dict[str, Any]:
        unlimited = (
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
            "maxConnections": self._max_connections,
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

    def close(self) -> None:
        """End it within half a second, and remove its files."""
        stop_all(self._processes, grace_seconds=_CLOSE_GRACE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)
