"""Loops that really stall, and what `/livez` reports."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the Kafka thread's loop is blocked
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the client of these tests
import pytest
import trio

from bridge.http.server import serve
from bridge.kafka.relay.relay import Relay
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.operations.health import Health, LoopHeartbeat
from bridge.operations.metrics import Metrics
from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import KafkaSettings, OutboxSettings
from tests.operations.statistics import Statistics


# Above the second between two beats.
_STALE_SECONDS = 1.5

_PATIENCE_SECONDS = 20.0

# The default of a Kubernetes probe's `timeoutSeconds`.
_PROBE_SECONDS = 1.0


@dataclass(frozen=True)
class _Bridge:
    """A bridge's two loops, and its health port."""

    outbox: Outbox
    relay: Relay
    loop: LoopHeartbeat
    port: int

    def probe(self) -> httpx.Response | None:
        """Ask `/livez` as a probe does; None if it gives no answer in time."""
        url = f"http://127.0.0.1:{self.port}/livez"
        with suppress(httpx.TimeoutException):
            return httpx.get(url, timeout=_PROBE_SECONDS, trust_env=False)
        return None

    async def wait_for(self, status: int) -> dict[str, Any]:
        """Probe until the answer has this status, and return its body."""
        with trio.fail_after(_PATIENCE_SECONDS):
            while True:
                answer = await trio.to_thread.run_sync(self.probe)
                if answer is not None and answer.status_code == status:
                    body: dict[str, Any] = answer.json()
                    return body
                await trio.sleep(0.05)


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(_PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - another thread changes it
            await trio.sleep(0.02)


@pytest.fixture
async def bridge(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[_Bridge]:
    """A bridge whose Kafka is nowhere."""
    loop = LoopHeartbeat()
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=tmp_path))
        relay = Relay(settings, ["jobs"], outbox)
        sources = Statistics().sources(
            outbox=outbox.statistics, relay=relay.statistics, loop=loop
        )
        health = Health(sources, lambda: Metrics(sources), stale_seconds=_STALE_SECONDS)
        nursery.start_soon(loop.beat)
        port: int = await nursery.start(serve, health.app(), "127.0.0.1:0")
        ended = trio.Event()

        async def run_relay() -> None:
            await relay.run()
            ended.set()

        nursery.start_soon(run_relay)
        yield _Bridge(outbox, relay, loop, port)
        relay.abort()
        await ended.wait()
    nursery.cancel_scope.cancel()


_Block = Callable[[_Bridge, threading.Event, pytest.MonkeyPatch], None]


def _block_client(
    bridge: _Bridge, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block the Kafka thread behind its next heartbeat, as a stuck client does."""
    kind = type(bridge.relay.statistics)
    beat = kind.beat

    def beat_and_block(self: RelayStatistics, now: float, late_seconds: float) -> None:
        beat(self, now, late_seconds)
        if not released.is_set():
            loop = asyncio.get_running_loop()
            loop.call_soon(released.wait, _PATIENCE_SECONDS)

    monkeypatch.setattr(kind, "beat", beat_and_block)


class _BlockingIds(list[str]):
    """Identities that can be read only when a test lets it happen."""

    released: threading.Event

    def __iter__(self) -> Iterator[str]:
        self.released.wait(_PATIENCE_SECONDS)
        return super().__iter__()


def _block_commit(
    bridge: _Bridge, released: threading.Event, _: pytest.MonkeyPatch
) -> None:
    """Block the Kafka thread inside a commit, as a disk that hangs does."""
    ids = _BlockingIds(["id"])
    ids.released = released
    bridge.outbox.replayed(ids)


@pytest.mark.parametrize("block", [_block_client, _block_commit])
async def test_a_loop_that_stands_still_fails_liveness(
    bridge: _Bridge, monkeypatch: pytest.MonkeyPatch, block: _Block
) -> None:
    """It is named as long as it stands still, and no longer; a dead Kafka never is."""
    statistics = bridge.relay.statistics
    await _until(lambda: statistics.last_error is not None)
    await bridge.wait_for(200)
    released = threading.Event()
    block(bridge, released, monkeypatch)
    try:
        body = await bridge.wait_for(503)
    finally:
        released.set()
    assert [why.partition(":")[0] for why in body["reasons"]] == ["kafka-thread"]
    await bridge.wait_for(200)
    assert not statistics.connected
    assert statistics.lag_seconds > _STALE_SECONDS - 1


async def test_a_trio_loop_that_stands_still_answers_no_probe(bridge: _Bridge) -> None:
    """The probe runs into its timeout; afterwards the answer shows the lag."""
    assert (await bridge.wait_for(200))["reasons"] == []
    answers: list[httpx.Response | None] = []
    probing = threading.Thread(target=lambda: answers.append(bridge.probe()))
    probing.start()
    # The fault under test: a call that blocks the loop, for as long as it is probed.
    probing.join(_PATIENCE_SECONDS)
    assert answers == [None]
    await _until(lambda: bridge.loop.lag_seconds > 0)
    *_, lag = (await bridge.wait_for(200))["checks"]
    assert lag["detail"] != "at most 0.000 s during the last minute"
