"""A full disk: the bridge stays up, says so, and goes on when there is room again."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.kafka import KafkaServer


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits a running process from outside"
)

# What the outbox has; the log is not much longer than its limit lets it be.
_ROOM_BYTES = 1_500_000

# No file may grow above this: SQLite gets EFBIG, an I/O error to it. Python has
# the signal ignored that would come with it.
_WITH_FILE_LIMIT = f"""
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, ({_ROOM_BYTES}, hard))
os.execv(sys.argv[1], sys.argv[1:])
"""

# A disk of its own that only this process sees, and that ends with it: SQLite
# gets ENOSPC, as on a real one.
_WITH_SMALL_DISK = f"""
mount -t tmpfs -o size={_ROOM_BYTES} none "$1" && shift && exec "$@"
"""

# As long as a third of what soketi lets through, so that a megabyte is 30 events.
_LARGE = "A" * 30_000


def _large_job() -> tuple[str, list[str]]:
    """Make a job whose events are large, though they have no preview to lose."""
    request_id, texts = job(8)
    return request_id, [f'{text[:-1]}, "log": "{_LARGE}"}}' for text in texts]


def _dropped(metrics: Metrics) -> int:
    return metrics.total("bridge_events_dropped_total")


def _may_mount() -> bool:
    """Whether this user may make a namespace with mounts of its own."""
    if not all(map(shutil.which, ("unshare", "nsenter", "mount"))) or os.geteuid():
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0


def _on_small_disk(disk: Path) -> dict[str, Any]:
    """Give what a bridge takes to have a small disk."""
    if not _may_mount():
        pytest.skip("takes the right to mount")
    disk.mkdir()
    shell = ["sh", "-c", _WITH_SMALL_DISK, "small-disk", str(disk)]
    return {"wrapper": ["unshare", "--mount", *shell], "outbox_dir": disk}


async def _enlarge(bridge: BridgeProcess, *, is_disk: bool) -> None:
    if is_disk:
        larger = ["mount", "-o", "remount,size=64m", str(bridge.outbox)]
        inside = ["nsenter", "--target", str(bridge.pid), "--mount"]
        await trio.run_process([*inside, *larger])
    else:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.prlimit(bridge.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("is_disk", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_disk_without_room_is_told_and_survived(
    scene: Scene, dryapi: str, own_kafka: KafkaServer, tmp_path: Path, *, is_disk: bool
) -> None:
    """With Kafka away the disk fills; a gap reports what has no room until it has."""
    limit: dict[str, Any] = {"wrapper": [sys.executable, "-c", _WITH_FILE_LIMIT]}
    if is_disk:
        limit = _on_small_disk(tmp_path / "disk")
    bridge = scene.bridge(dryapi, **limit)
    await bridge.start_and_wait()
    async with scene.load(bridge) as load:
        own_kafka.pause()
        # 3 MB: twice what the disk has.
        await load.run_together([_large_job() for _ in range(10)])
        full = await bridge.wait_answer(
            "/readyz", lambda now: not now.check("outbox-accepting")["ok"]
        )
        assert full.status == 503
        reported = await bridge.wait_logged("outbox.full")
        assert str(bridge.outbox) in reported["path"]
        live = await bridge.ask("/livez")
        assert live is not None
        assert live.status == 200
        await bridge.wait_metrics(lambda now: now.read == load.count)

        await _enlarge(bridge, is_disk=is_disk)
        await bridge.wait_logged("outbox.has_room")
        own_kafka.resume()
        await bridge.wait_ready()
        await load.run_together([job(3) for _ in range(10)])
    now = await bridge.wait_metrics(
        lambda now: now.read == load.count == now.published + _dropped(now)
    )
    await scene.end(missing=_dropped(now), gaps=None)
    losses = bridge.logged("gap.closed")[1:]
    assert {loss["cause"] for loss in losses} <= {"outbox_full"}
    assert sum(loss["records_lost"] for loss in losses) == _dropped(now)
