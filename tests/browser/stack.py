"""The whole way: a dryAPI, soketi, the bridge, Kafka, and the board as a process."""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from tests.conftest import Topic
from tests.e2e.jobs import JOB_EVENT
from tests.e2e.scene import Account, Scene
from tests.kit.broker import KafkaBroker
from tests.kit.dryapi import DryApi
from tests.kit.process import (
    ChildProcess,
    environment_without,
    free_ports,
    start_all,
    stop_all,
)
from tests.kit.soketi import SoketiServer


# All take well under 3 s on an idle machine.
_START_SECONDS = 40.0
_GRACE_SECONDS = 5.0

_HTTP_SECONDS = 5.0

_WEBHOOK_SECRET = "whsec_made-up-for-this-test-only"
# The socket is on this machine: what it doesn't bring in a second it doesn't bring.
_HOLD_SECONDS = 1


@dataclass(frozen=True)
class Stack:
    """All of it, running."""

    url: str
    scene: Scene
    dryapi_url: str

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
        answered: dict[str, Any] = json.loads(_ask(self.dryapi_url + path, data))
        return answered


@contextmanager
def stack(
    folder: Path, kafka: KafkaBroker, soketi: SoketiServer, topic: Topic
) -> Iterator[Stack]:
    """Start it between a Kafka and a soketi, and end it with the block."""
    # A name for the pictures of it.
    account = Account(
        "gallery", "private-client.gallery", f"canary-{secrets.token_hex(12)}"
    )
    scene = Scene(folder, account, kafka, topic, soketi)
    webhook_port, board_port = free_ports(2)
    dryapi = DryApi(
        soketi,
        {account.client_id: account.token},
        plan="premium",
        # So that some of them are seen among a few dozen jobs.
        fail=0.12,
        preview_bytes=30_000,
        webhook_url=f"http://127.0.0.1:{webhook_port}/webhooks/dryapi",
        webhook_secret=_WEBHOOK_SECRET,
    )
    url = f"http://127.0.0.1:{board_port}/"
    (folder / "board").mkdir()
    arguments = ["board", "--topic", topic.name, "--listen", f"127.0.0.1:{board_port}"]
    board = ChildProcess(
        "the board",
        [
            *(sys.executable, "-m", "bridge", *arguments),
            *("--bootstrap-servers", kafka.bootstrap_servers),
        ],
        log=folder / "board" / "log",
        cwd=folder / "board",
        # The user's own bridge must not speak into this one.
        env=environment_without("BRIDGE_"),
        ready=lambda _: _answers(url),
    )
    with dryapi.serving():
        bridge = scene.bridge(
            dryapi.url,
            webhook_listen=f"127.0.0.1:{webhook_port}",
            webhook_secret=_WEBHOOK_SECRET,
            webhook_grace_period_seconds=_HOLD_SECONDS,
        )
        try:
            start_all([board], deadline_seconds=_START_SECONDS)
            trio.run(bridge.start_and_wait)
            yield Stack(url, scene, dryapi.url)
        finally:
            stop_all([board], grace_seconds=_GRACE_SECONDS)
            scene.close()


def _answers(url: str) -> bool:
    try:
        return bool(_ask(url))
    except OSError:
        return False


def _ask(url: str, data: bytes | None = None) -> bytes:
    # Never by a proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data)  # noqa: S310 - http
    with opener.open(request, timeout=_HTTP_SECONDS) as answer:
        return bytes(answer.read()) or b"{}"
