"""
Who is measured: one class each, which says how its processes are started.

A contender runs as its users run it, in processes of its own, against the servers
that a `Stage` names. The bridge and what it is held against stand here, others in
`peers`; who runs, and when, is `line_up`'s. How it is measured and judged must not be
put here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import websocket_alone
from benchmarks.orders import answers
from benchmarks.traffic import CLIENT_ID, Traffic
from benchmarks.upstream import Upstream
from tests.kit.process import ChildProcess, free_ports


__all__ = [
    "BRIDGE",
    "FLOOR",
    "PARTITIONS",
    "ROOT",
    "TRANSACTIONAL",
    "Contender",
    "Stage",
    "command",
    "program",
]

ROOT = Path(__file__).parents[1]

# Of a run's topic.
PARTITIONS = 6


@dataclass(frozen=True)
class Stage:
    """
    What a contender of one run finds.

    Attributes:
        upstream: Where events come from.
        kafka: Bootstrap servers.
        topic: Where events go; `{topic}.dlq` is there too.
        traffic: The events that will come.
        folder: Empty, for files; removed after the run.
    """

    upstream: Upstream
    kafka: str
    topic: str
    traffic: Traffic
    folder: Path


class Contender(Protocol):
    """What is measured."""

    @property
    def name(self) -> str:
        """What it is called in the report."""

    @property
    def publishes(self) -> bool:
        """Whether it brings events to Kafka; if not, it prints `DONE_MARK`."""

    def process(self, stage: Stage) -> ChildProcess:
        """Describe its process, ready once it could take and pass on an event."""

    def obstacle(self) -> str | None:
        """Say what it lacks on this machine; None if it can run."""

    def versions(self) -> dict[str, str]:
        """Give the versions of its own that a report names beside the bridge's."""


class WebsocketAlone:
    """trio-websocket reading the same events: what receiving costs."""

    name = "trio-websocket alone"
    publishes = False

    def process(self, stage: Stage) -> ChildProcess:
        """Describe the reader's process."""
        return program(
            self.name,
            [
                websocket_alone.__name__,
                stage.upstream.pusher_url,
                str(stage.traffic.events),
            ],
            stage.folder,
        )

    def obstacle(self) -> str | None:
        """Say nothing: `make install` brings all."""
        return None

    def versions(self) -> dict[str, str]:
        """Give none: they stand in every report."""
        return {}


class Bridge:
    """
    The bridge with its default settings.

    Args:
        name: What it is called in the report.
        delivery: Its setting `delivery`.
    """

    publishes = True

    def __init__(self, name: str, delivery: str = "idempotent") -> None:
        self.name = name
        self._delivery = delivery

    def process(self, stage: Stage) -> ChildProcess:
        """Describe the bridge's process."""
        (port,) = free_ports(1)
        settings = {
            "BRIDGE_TOPIC": stage.topic,
            "BRIDGE_DELIVERY": self._delivery,
            "BRIDGE_CLIENT_ID": CLIENT_ID,
            "BRIDGE_API_TOKEN": "any",
            "BRIDGE_API_URL": stage.upstream.api_url,
            "BRIDGE_PUSHER_APP_KEY": stage.upstream.app_key,
            "BRIDGE_PUSHER_URL": stage.upstream.pusher_url,
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": stage.kafka,
            "BRIDGE_OUTBOX_DIR": str(stage.folder / "outbox"),
            "BRIDGE_OPERATIONS_LISTEN": f"127.0.0.1:{port}",
        }
        return program(
            self.name,
            ["bridge"],
            stage.folder,
            environment=settings,
            ready=lambda _: answers(f"http://127.0.0.1:{port}/readyz"),
        )

    def obstacle(self) -> str | None:
        """Say nothing: `make install` brings all."""
        return None

    def versions(self) -> dict[str, str]:
        """Give none: they stand in every report."""
        return {}


FLOOR: Contender = WebsocketAlone()

BRIDGE: Contender = Bridge("bridge")

# Only where it is asked for.
TRANSACTIONAL: Contender = Bridge("bridge, transactional", "transactional")


def _at_once(_: ChildProcess) -> bool:
    return True


def program(
    name: str,
    module: list[str],
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    ready: Callable[[ChildProcess], bool] = _at_once,
) -> ChildProcess:
    """
    Describe the process of a Python module.

    Args:
        name: What it is called in messages.
        module: The module and its arguments, as `python -m` takes them.
        folder: Where its log is written.
        environment: Variables beside this process's own.
        ready: Says whether it is ready.
    """
    return command(
        name,
        [sys.executable, "-m", *module],
        folder,
        environment=environment,
        ready=ready,
    )


def command(
    name: str,
    argv: list[str | Path],
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    ready: Callable[[ChildProcess], bool] = _at_once,
) -> ChildProcess:
    """
    Describe the process of any program.

    Args:
        name: What it is called in messages.
        argv: The program and its arguments.
        folder: Where its log is written.
        environment: Variables beside this process's own.
        ready: Says whether it is ready.
    """
    # The user's own bridge has no part in this.
    kept = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
    # Compiled as an installed one is: its memory at rest has no compiler's part.
    kept["PYTHONDONTWRITEBYTECODE"] = ""
    kept["PYTHONPYCACHEPREFIX"] = str(ROOT / "build" / "compiled")
    return ChildProcess(
        name,
        argv,
        log=folder / f"{name}.log",
        cwd=ROOT,
        env=kept | (environment or {}),
        ready=ready,
    )
