"""A real Schema Registry: Apicurio Registry, through its Confluent-compatible API.

Owns its options, its start and its end. It keeps what it is told in memory: a
registry that was started again is an empty one. What it is made of belongs to
`downloads`.

    with RegistryServer() as registry:
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kit import downloads
from tests.kit.process import (
    ChildProcess,
    check_port_free,
    free_ports,
    start_all,
)


__all__ = ["RegistryServer"]

# Measured: 2.5 s alone on two idle cores. Below pytest's 60 s, so that the error with
# the log's tail comes first.
_START_DEADLINE_SECONDS = 45.0

_JVM_OPTIONS = (
    "-Xmx256m",  # measured: 240 MB in all
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Otherwise SIGKILL leaves a file in the system's temporary directory.
    "-XX:-UsePerfData",
)

# These would change its options behind the command line's back.
_FOREIGN_PREFIXES = ("CLASSPATH", "JAVA_", "JDK_JAVA_", "QUARKUS_", "APICURIO_")

_READY_LINE = "Listening on: http://"


class RegistryServer:
    """A Schema Registry of our own, for one run.

    Entering it as a context manager starts it; leaving it ends it. In between it may
    be killed, paused and started again on the same port.

    Attributes:
        url: Where Confluent's API begins.
    """

    def __init__(self, *, progress: downloads.Progress = downloads.to_stderr) -> None:
        packages = downloads.fetch_registry(progress)
        self._port, management_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-registry-"))
        options = (
            "quarkus.http.host=127.0.0.1",
            f"quarkus.http.port={self._port}",
            "quarkus.management.host=127.0.0.1",
            f"quarkus.management.port={management_port}",
            f"java.io.tmpdir={self._folder}",
        )
        self._process = ChildProcess(
            "Apicurio Registry",
            [
                downloads.java(),
                *_JVM_OPTIONS,
                *(f"-D{option}" for option in options),
                "-jar",
                packages / "quarkus-run.jar",
            ],
            log=self._folder / "registry.log",
            cwd=self._folder,
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(_FOREIGN_PREFIXES)
            },
            scratch=self._folder,
            ready=self._is_ready,
        )

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

    def _is_ready(self, process: ChildProcess) -> bool:
        return _READY_LINE in process.output() and self.answers()

    def answers(self) -> bool:
        """Whether a list of its subjects can be had."""
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:  # noqa: S310 - an address of ours
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def start(self) -> None:
        """Start it if it doesn't run, and wait until it answers."""
        if self._process.running:
            return
        check_port_free(self._port)
        start_all([self._process], deadline_seconds=_START_DEADLINE_SECONDS)

    def kill(self) -> None:
        """Kill it: what it was told is gone."""
        self._process.kill()

    def pause(self) -> None:
        """Let it stand still with its connections open."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on if it is paused."""
        self._process.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it at once, and remove its files."""
        self._process.kill()  # what it would save is of no use
        shutil.rmtree(self._folder, ignore_errors=True)
