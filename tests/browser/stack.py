"""The whole way, as processes: a dryAPI, soketi, the bridge, Kafka, and the board."""

from __future__ import annotations

import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from tests.conftest import Topic
from tests.e2e.jobs import JOB_EVENT
from tests.e2e.scene import Account, Scene
from tests.kit.broker import KafkaBroker
from tests.kit.process import ChildProcess, free_ports, start_all, stop_all
from tests.kit.soketi import SoketiServer


__all__ = ["Stack", "stack"]

# All take well under 3 s on an idle machine.
_START_SECONDS = 40.0
_GRACE_SECONDS = 5.0

_HTTP_SECONDS = 5.0

_WEBHOOK_SECRET = "whsec_made-up-for-this-test-only"
# The socket is on this machine: what it doesn't tell in a second it doesn't tell.
_HOLD_SECONDS = 1


@dataclass(frozen=True)
class Stack:
    """All of it, running."""

    url: str
    scene: Scene
    sandbox_url: str

    def start_job(self, *, steps: int, seconds: float, fails: bool) -> str:
        """Let dryAPI start a job; give its id."""
        asked = {"steps": steps, "interval_seconds": seconds, "fail": fails}
        return str(self._post("/jobs", asked)["request_id"])

    def emit(self, rate: float) -> None:
        """Let dryAPI simulate jobs, so many events a second."""
        self._post("/sandbox/emission", {"rate": rate})

    def publish(self, data: Any) -> None:
        """Say something on the account's channel that no dryAPI would say."""
        scene = self.scene
        trio.run(scene.soketi.publish, scene.account.channel, JOB_EVENT, data)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.sandbox_url + path, data)  # noqa: S310 - http
        # Never by a proxy: it is this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_HTTP_SECONDS) as answer:
            answered: dict[str, Any] = json.loads(answer.read() or b"{}")
        return answered


@contextmanager
def stack(
    folder: Path, kafka: KafkaBroker, soketi: SoketiServer, topic: Topic
) -> Iterator[Stack]:
    """Start it between a Kafka and a soketi, and end it with the block."""
    # A name for the pictures of it.
    token = f"canary-{secrets.token_hex(12)}"
    account = Account("gallery", "private-client.gallery", token)
    scene = Scene(folder, account, kafka, topic, soketi)
    sandbox_port, webhook_port, board_port = free_ports(3)
    made = Stack(
        f"http://127.0.0.1:{board_port}/", scene, f"http://127.0.0.1:{sandbox_port}"
    )
    webhook_url = f"http://127.0.0.1:{webhook_port}/webhooks/dryapi"
    children = [
        _sandbox(folder / "sandbox", made, sandbox_port, webhook_url),
        _board(folder / "board", topic.name, board_port, kafka),
    ]
    bridge = scene.bridge(
        made.sandbox_url,
        webhook_listen=f"127.0.0.1:{webhook_port}",
        webhook_secret=_WEBHOOK_SECRET,
        webhook_grace_period_seconds=_HOLD_SECONDS,
    )
    try:
        start_all(children, deadline_seconds=_START_SECONDS)
        trio.run(bridge.start_and_wait)
        yield made
    finally:
        stop_all(children, grace_seconds=_GRACE_SECONDS)
        scene.close()


def _sandbox(folder: Path, made: Stack, port: int, webhook_url: str) -> ChildProcess:
    account, soketi = made.scene.account, made.scene.soketi
    options = {
        "--listen": f"127.0.0.1:{port}",
        "--rate": "0",
        "--plan": "premium",
        # So that some of them are seen among a few dozen jobs.
        "--fail": "0.12",
        "--preview-bytes": "30000",
        "--client-id": account.client_id,
        "--api-token": account.token,
        "--pusher-url": soketi.url,
        "--app-id": soketi.app.id,
        "--app-key": soketi.app.key,
        "--webhook-url": webhook_url,
    }
    environment = {
        "SANDBOX_APP_SECRET": soketi.app.secret,
        "SANDBOX_WEBHOOK_SECRET": _WEBHOOK_SECRET,
    }
    arguments = [text for option in options.items() for text in option]
    url = f"{made.sandbox_url}/sandbox/statistics"
    return _child("the sandbox", folder, ["sandbox", *arguments], environment, url)


def _board(folder: Path, topic: str, port: int, kafka: KafkaBroker) -> ChildProcess:
    arguments = ["board", "--topic", topic]
    arguments += ["--bootstrap-servers", kafka.bootstrap_servers]
    arguments += ["--listen", f"127.0.0.1:{port}"]
    return _child("the board", folder, arguments, {}, f"http://127.0.0.1:{port}/")


def _child(
    name: str,
    folder: Path,
    arguments: Sequence[str],
    environment: dict[str, str],
    url: str,
) -> ChildProcess:
    folder.mkdir()
    # The user's own bridge must not speak into this one.
    kept = {name: text for name, text in os.environ.items() if name[:7] != "BRIDGE_"}

    def answers(_: ChildProcess) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=_HTTP_SECONDS):
                return True
        except OSError:
            return False

    return ChildProcess(
        name,
        [sys.executable, "-m", "bridge", *arguments],
        log=folder / "log",
        cwd=folder,
        env=kept | environment,
        ready=answers,
    )
