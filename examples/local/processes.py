"""
The processes of a run: how each is started, when it is ready, what it says over HTTP.

Owns command lines, environments, addresses and answers. Kafka is started by
`tests.kit`; the order of all is `run`'s. HTTP calls block, have a
deadline, and raise `EndpointError` where there is no usable answer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.process import ChildProcess, start_all, stop_all


__all__ = [
    "Addresses",
    "BridgeNumbers",
    "EndpointError",
    "board_child",
    "bridge_child",
    "bridge_numbers",
    "check_running",
    "running",
    "sandbox_child",
    "sandbox_statistics",
    "set_rate",
]

# Each takes well under 2 s on an idle machine.
_START_SECONDS = 30.0
# Everything must end within 10 s of Ctrl-C; the bridge has most of it for its drain.
_BRIDGE_STOP_SECONDS = 5.0
_BRIDGE_DRAIN_SECONDS = 4.0
_OTHER_STOP_SECONDS = 1.5
# All answer from memory, on this machine.
_HTTP_SECONDS = 2.0

_CLIENT_ID = "sandbox"
_API_TOKEN = "sandbox-token"  # the sandbox's own default: it protects nothing
_WEBHOOK_SECRET = "whsec_made-up-for-this-machine-only"  # likewise
# Long enough for the socket, which is on this machine; a timed run waits for it.
_HOLD_SECONDS = 1.0

# Records of jobs that didn't come from the socket.
_HEALED = {
    ("bridge_webhook_released_total", "written"),
    ("bridge_reconciliation_jobs_total", "healed"),
}


class EndpointError(Exception):
    """An endpoint gave no usable answer: it isn't up yet, or no longer."""


@dataclass(frozen=True)
class Addresses:
    """Host and port of all that a run opens, and the topic of the jobs."""

    kafka: str
    topic: str
    sandbox: str
    health: str
    webhooks: str
    board: str


@dataclass(frozen=True)
class BridgeNumbers:
    """
    What the bridge's metrics say.

    Attributes:
        read: Events read from the socket.
        published: Records that Kafka has acknowledged, dead letters included, gap
            records not: they aren't events.
        dead_letters: Events that became dead letters.
        waiting: Records in the outbox that Kafka hasn't acknowledged, and webhooks
            that are held there.
        healed: Published records that didn't come from the socket.
        gaps: Times in which events may have been missed, without the first start's.
    """

    read: int
    published: int
    dead_letters: int
    waiting: int
    healed: int
    gaps: int


def sandbox_child(folder: Path, addresses: Addresses) -> ChildProcess:
    """Describe the sandbox's process; it emits nothing until it is asked to."""
    options = {
        "--listen": addresses.sandbox,
        "--rate": "0",
        "--client-id": _CLIENT_ID,
        "--api-token": _API_TOKEN,
        "--webhook-url": f"http://{addresses.webhooks}/webhooks/dryapi",
    }
    ready = f"{addresses.sandbox}/sandbox/statistics"
    return _child("the sandbox", ["sandbox", "--stamp"], options, folder, ready)


def bridge_child(folder: Path, addresses: Addresses) -> ChildProcess:
    """Describe the bridge's process; it creates the topics that are missing."""
    settings = {
        "BRIDGE_CLIENT_ID": _CLIENT_ID,
        "BRIDGE_API_TOKEN": _API_TOKEN,
        "BRIDGE_API_URL": f"http://{addresses.sandbox}",
        "BRIDGE_PUSHER_URL": f"ws://{addresses.sandbox}",
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": addresses.kafka,
        "BRIDGE_KAFKA_CREATE_TOPICS": "true",
        "BRIDGE_KAFKA_REPLICATION_FACTOR": "1",
        "BRIDGE_OUTBOX_DIR": str(folder / "outbox"),
        "BRIDGE_OPERATIONS_LISTEN": addresses.health,
        "BRIDGE_WEBHOOK_LISTEN": addresses.webhooks,
        "BRIDGE_WEBHOOK_SECRET": _WEBHOOK_SECRET,
        "BRIDGE_WEBHOOK_GRACE_PERIOD_SECONDS": f"{_HOLD_SECONDS:g}",
        "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": f"{_BRIDGE_DRAIN_SECONDS:g}",
    }
    options = {"--topic": addresses.topic}
    ready = f"{addresses.health}/readyz"
    return _child("the bridge", [], options, folder, ready, settings)


def board_child(folder: Path, addresses: Addresses) -> ChildProcess:
    """Describe the board's process; it needs the topics to be there."""
    options = {
        "--topic": addresses.topic,
        "--bootstrap-servers": addresses.kafka,
        "--listen": addresses.board,
    }
    return _child("the board", ["board"], options, folder, addresses.board)


def _child(  # noqa: PLR0913, PLR0917 - what makes a process
    name: str,
    command: list[str],
    options: dict[str, str],
    folder: Path,
    ready: str,
    settings: dict[str, str] | None = None,
) -> ChildProcess:
    folder.mkdir()
    # The user's own bridge has no part in this, but for the level of its log.
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("BRIDGE_") or key == "BRIDGE_LOG_LEVEL"
    }

    def answers(_: ChildProcess) -> bool:
        try:
            _ask(ready)
        except EndpointError:
            return False
        return True

    pairs = [text for option in options.items() for text in option]
    return ChildProcess(
        name,
        [sys.executable, "-m", "bridge", *command, *pairs],
        log=folder / "log",
        cwd=Path(__file__).parents[2],
        env=kept | {"BRIDGE_LOG_FORMAT": "console"} | (settings or {}),
        # The whole run's: removed even if the run is killed.
        scratch=folder.parent,
        ready=answers,
    )


@asynccontextmanager
async def running(child: ChildProcess) -> AsyncIterator[None]:
    """Have a process running and ready inside the block."""
    await trio.to_thread.run_sync(
        lambda: start_all(
            [child],
            deadline_seconds=_START_SECONDS,
            checkpoint=trio.from_thread.check_cancelled,
        )
    )
    grace = _BRIDGE_STOP_SECONDS if child.name == "the bridge" else _OTHER_STOP_SECONDS
    try:
        yield
    finally:
        # Shielded, since a cancelled run must still end its processes; the grace
        # period is the deadline.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(
                lambda: stop_all([child], grace_seconds=grace)
            )


def check_running(children: Sequence[ChildProcess]) -> None:
    """Raise the error of the first process that has ended by itself."""
    for child in children:
        if not child.running:
            code = child.exit_code
            how = f"ended with exit code {code}"
            if code is not None and code < 0:
                how = f"was ended by {signal.Signals(-code).name}"
            raise child.error(f"{how}; the last lines of its log:")


def sandbox_statistics(addresses: Addresses) -> tuple[int, int]:
    """Ask how many events were emitted, and how many webhooks are left to post."""
    answer = json.loads(_ask(f"{addresses.sandbox}/sandbox/statistics"))
    return int(answer["events_emitted"]), int(answer["webhooks"]["open"])


def set_rate(addresses: Addresses, rate: float) -> None:
    """Set how many events the sandbox emits a second; 0 stops it."""
    _ask(f"{addresses.sandbox}/sandbox/emission", {"rate": rate})


def bridge_numbers(addresses: Addresses) -> BridgeNumbers:
    """Read the bridge's metrics."""
    metrics = _ask(f"{addresses.health}/metrics").decode()
    sums: dict[str, float] = {}
    healed = gaps = 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.labels.get("topic", "").endswith(".gaps"):
                continue
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            if (sample.name, sample.labels.get("result")) in _HEALED:
                healed += sample.value
            is_start = sample.labels.get("cause") == "first_start"
            if sample.name == "bridge_gaps_total" and not is_start:
                gaps += sample.value
    return BridgeNumbers(
        read=int(sums["bridge_events_received_total"]),
        published=int(sums.get("bridge_records_published_total", 0)),
        dead_letters=int(sums["bridge_dlq_records_total"]),
        waiting=int(sums["bridge_outbox_rows"] + sums["bridge_outbox_held"]),
        healed=int(healed),
        gaps=int(gaps),
    )


def _ask(address: str, body: dict[str, Any] | None = None) -> bytes:
    url = f"http://{address}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)
    # Never by a proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_HTTP_SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise EndpointError(f"{url}: {error}") from error
    return content
