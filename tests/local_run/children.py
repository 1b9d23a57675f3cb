"""
The processes of a run: how sandbox, bridge and board are started and ended.

Owns their command lines, environments and when they count as ready. Kafka is
`tests.kit`' business, the order of it all `run`'s.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.kit.process import ChildProcess, ProcessError, start_all, stop_all
from tests.local_run.endpoints import Board, Bridge, EndpointError, Sandbox


__all__ = [
    "board_child",
    "bridge_child",
    "running",
    "sandbox_child",
    "stopped_by_itself",
    "webhook_url",
]

# Each takes well under 2 s on an idle machine.
_START_SECONDS = 30.0
# All must be gone 10 s after Ctrl-C: the bridge has most of it for its drain.
BRIDGE_GRACE_SECONDS = 5.0
_DRAIN_SECONDS = 4.0
SANDBOX_GRACE_SECONDS = 1.5
# It has nothing to finish.
BOARD_GRACE_SECONDS = 1.0

_CLIENT_ID = "sandbox"
_API_TOKEN = "sandbox-token"  # the sandbox's own default: it protects nothing
_WEBHOOK_SECRET = "whsec_made-up-for-this-machine-only"  # likewise
# Long enough for the socket, which is on this machine; a timed run waits for it.
_HOLD_SECONDS = 1.0


def webhook_url(port: int) -> str:
    """Say where the bridge takes webhooks, for its port."""
    return f"http://127.0.0.1:{port}/webhooks/dryapi"


def sandbox_child(folder: Path, port: int, *, webhook_port: int) -> ChildProcess:
    """
    Describe the sandbox's process; it emits nothing until it is told to.

    Args:
        folder: Its own folder, for its log.
        port: The free port that it shall serve.
        webhook_port: Where the bridge takes its webhooks.
    """
    options = {
        "--listen": f"127.0.0.1:{port}",
        "--rate": "0",
        "--client-id": _CLIENT_ID,
        "--api-token": _API_TOKEN,
        "--webhook-url": webhook_url(webhook_port),
    }
    argv = [sys.executable, "-m", "bridge", "sandbox", "--stamp"]
    argv += [text for option in options.items() for text in option]
    return _child("the sandbox", argv, folder, _environment(), Sandbox(port).answers)


def bridge_child(
    folder: Path,
    *,
    sandbox: Sandbox,
    kafka: str,
    topic: str,
    port: int,
    webhook_port: int,
) -> ChildProcess:
    """
    Describe the bridge's process.

    Args:
        folder: Its own folder, for its outbox and its log.
        sandbox: The dryAPI that it shall listen to.
        kafka: Bootstrap servers.
        topic: The topic that it shall write, created if it is missing.
        port: The free port for health and metrics.
        webhook_port: The free port for webhooks.
    """
    environment = _environment() | {
        "BRIDGE_CLIENT_ID": _CLIENT_ID,
        "BRIDGE_API_TOKEN": _API_TOKEN,
        "BRIDGE_API_URL": sandbox.url,
        "BRIDGE_PUSHER_URL": sandbox.pusher_url,
        "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "BRIDGE_KAFKA_CREATE_TOPICS": "true",
        "BRIDGE_KAFKA_REPLICATION_FACTOR": "1",
        "BRIDGE_OUTBOX_DIR": str(folder / "outbox"),
        "BRIDGE_OPERATIONS_LISTEN": f"127.0.0.1:{port}",
        "BRIDGE_WEBHOOK_LISTEN": f"127.0.0.1:{webhook_port}",
        "BRIDGE_WEBHOOK_SECRET": _WEBHOOK_SECRET,
        "BRIDGE_WEBHOOK_HOLD_SECONDS": f"{_HOLD_SECONDS:g}",
        "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": f"{_DRAIN_SECONDS:g}",
        "BRIDGE_LOG_FORMAT": "console",
    }
    argv = [sys.executable, "-m", "bridge", "--topic", topic]
    return _child("the bridge", argv, folder, environment, Bridge(port).is_ready)


def board_child(folder: Path, *, kafka: str, topic: str, port: int) -> ChildProcess:
    """
    Describe the board's process; it needs the topics to be there.

    Args:
        folder: Its own folder, for its log.
        kafka: Bootstrap servers.
        topic: The topic of the jobs that it shall show.
        port: The free port that it shall serve.
    """
    options = {
        "--topic": topic,
        "--bootstrap-servers": kafka,
        "--listen": f"127.0.0.1:{port}",
    }
    argv = [sys.executable, "-m", "bridge", "board"]
    argv += [text for option in options.items() for text in option]
    environment = _environment() | {"BRIDGE_LOG_FORMAT": "console"}
    return _child("the board", argv, folder, environment, Board(port).answers)


def _environment() -> dict[str, str]:
    """Give this process's environment without the user's own bridge in it."""
    kept = {name: value for name, value in os.environ.items() if name[:7] != "BRIDGE_"}
    level = os.environ.get("BRIDGE_LOG_LEVEL")
    return kept | ({"BRIDGE_LOG_LEVEL": level} if level else {})


def _child(
    name: str,
    argv: list[str],
    folder: Path,
    environment: dict[str, str],
    ready: Callable[[], bool],
) -> ChildProcess:
    folder.mkdir()

    def look(_: ChildProcess) -> bool:
        try:
            return ready()
        except EndpointError:
            return False

    return ChildProcess(
        name,
        argv,
        log=folder / "log",
        cwd=Path(__file__).parents[2],
        env=environment,
        # The whole run's: should the run be killed, nobody else removes it.
        scratch=folder.parent,
        ready=look,
    )


@asynccontextmanager
async def running(child: ChildProcess, grace_seconds: float) -> AsyncIterator[None]:
    """
    Start a process, and end it with the block.

    Args:
        child: The process.
        grace_seconds: How long it has after SIGTERM until it is killed.

    Yields:
        Once it is ready.

    Raises:
        ProcessError: It ended or was not ready in time.
    """
    await trio.to_thread.run_sync(
        lambda: start_all(
            [child],
            deadline_seconds=_START_SECONDS,
            checkpoint=trio.from_thread.check_cancelled,
        )
    )
    try:
        yield
    finally:
        # Shielded, since a cancelled run must still end its processes; the
        # grace is the deadline.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(
                lambda: stop_all([child], grace_seconds=grace_seconds)
            )


def stopped_by_itself(children: list[ChildProcess]) -> ProcessError | None:
    """Make the error for the first process that has ended without being asked."""
    for child in children:
        if not child.running:
            code = child.exit_code
            how = f"ended with exit code {code}"
            if code is not None and code < 0:
                how = f"was ended by {signal.Signals(-code).name}"
            return child.error(f"{how}; the last lines of its log:")
    return None
