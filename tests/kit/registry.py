"""A real Schema Registry: Apicurio Registry, through its Confluent-compatible API.

with RegistryServer() as registry:
"""

from __future__ import annotations

import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.kit import downloads, wheels
from tests.kit.process import (
    ChildProcess,
    ChildServer,
    environment_without,
    free_ports,
)


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


class RegistryServer(ChildServer):
    """A Schema Registry of our own; `url` is where Confluent's API begins."""

    def __init__(self) -> None:
        packages = downloads.fetch_registry()
        port, management_port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-registry-"))
        options = (
            "quarkus.http.host=127.0.0.1",
            f"quarkus.http.port={port}",
            "quarkus.management.host=127.0.0.1",
            f"quarkus.management.port={management_port}",
            f"java.io.tmpdir={self._folder}",
        )
        process = ChildProcess(
            "Apicurio Registry",
            [
                wheels.java(),
                *_JVM_OPTIONS,
                *(f"-D{option}" for option in options),
                "-jar",
                packages / "quarkus-run.jar",
            ],
            log=self._folder / "registry.log",
            cwd=self._folder,
            env=environment_without(*_FOREIGN_PREFIXES),
            scratch=self._folder,
            ports=[port],
            ready=self._is_ready,
        )
        self._processes = [process]

    def _is_ready(self, process: ChildProcess) -> bool:
        return _READY_LINE in process.output() and self.answers()

    def answers(self) -> bool:
        """Whether a list of its subjects can be had."""
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:  # noqa: S310 - an address of ours
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        """End it at once, and remove its files."""
        self.kill()  # what it would save is of no use
        shutil.rmtree(self._folder, ignore_errors=True)
