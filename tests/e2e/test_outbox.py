"""Outboxes in trouble: a full disk, a damaged file, and no room for what comes."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene, without_preview
from tests.kit.bridge_process import BridgeProcess, Metrics
from tests.kit.kafka import KafkaServer


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


def _large_job(log: str = _LARGE) -> tuple[str, list[str]]:
    """Make a job whose events are large, though they have no preview to lose."""
    request_id, texts = job(8)
    return request_id, [f'{text[:-1]}, "log": "{log}"}}' for text in texts]


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


@pytest.mark.skipif(
    sys.platform != "linux", reason="limits a running process from outside"
)
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
        await bridge.wait_logged("outbox.has_space")
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


@pytest.mark.slow
async def test_a_disk_that_kafka_empties_makes_its_own_room(
    scene: Scene, dryapi: str, tmp_path: Path
) -> None:
    """While Kafka takes the rows, four times the disk's size flows through it."""
    bridge = scene.bridge(dryapi, **_on_small_disk(tmp_path / "disk"))
    await bridge.start_and_wait()
    async with scene.load(bridge) as load:
        # Each a twentieth of the disk: what has no room at once is dropped.
        for _ in range(80):
            await load.run_together([_large_job(_LARGE[: len(_LARGE) // 4])])
            now = await bridge.wait_metrics(lambda now: now.published == load.count)
    assert _dropped(now) == 0
    await scene.end()


_PAGE_BYTES = 8192


def _damage(database: Path) -> None:
    """Overwrite a page in the middle, where rows lie."""
    pages = database.stat().st_size // _PAGE_BYTES
    with database.open("r+b") as file:
        file.seek(pages // 2 * _PAGE_BYTES)
        file.write(random.Random(1).randbytes(_PAGE_BYTES))


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_a_damaged_file_costs_the_rows_on_its_page_and_is_told(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """All other waiting events reach Kafka in order, and a gap reports the damage."""
    bridge = scene.bridge(dryapi, shutdown_timeout_seconds=0.5)
    await bridge.start_and_wait()
    async with scene.load() as load:
        own_kafka.pause()
        await load.run_together([job(10) for _ in range(80)])
        await bridge.wait_metrics(lambda now: now.committed == load.count)
        assert await bridge.stop() == 0
        waiting = load.count
        database = bridge.outbox / "outbox.sqlite3"
        _damage(database)

        own_kafka.resume()
        # The page is met when its rows are read.
        bridge.start()
        sentence = await bridge.wait_refusal(1)
        assert "outbox.sqlite3" in sentence
        damaged = database.read_bytes()
        await bridge.start_and_wait()
        reported = await bridge.wait_logged("outbox.damaged")
        # A page of 8 KiB has some 20 rows.
        assert 0 < reported["lost"] < 40
        await load.run_together([job(3) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.read == load.count - waiting)
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    ending = await scene.end(
        missing=reported["lost"],
        # What was on its way when the file was set aside may come twice.
        repeats=True,
        salvaged=True,
        gaps=None,
    )
    # Not a byte of it was changed.
    assert _content(reported["set_aside"]) == damaged
    causes = [gap.cause for gap in ending.gaps]
    assert sorted(causes) == [
        "crashed",
        "first_start",
        "outbox_damaged",
        "stopped",
    ]
    gap = ending.gaps[causes.index("outbox_damaged")]
    (closed,) = (
        line for line in bridge.logged("gap.closed") if line["gap_id"] == gap.gap_id
    )
    assert closed["records_lost"] == reported["lost"]


# Full after some hundred events with previews. What the buffer holds when there is no
# more room for events fits into what is left for the ends of jobs.
_OUTBOX_BYTES = 28_000_000
_BUFFER_BYTES = 1_000_000

# So many that ends of jobs are among the oldest in memory too.
_LOST = 1_500

_PREVIEW = "data:image/jpeg;base64," + "A" * 60_000


async def test_what_has_no_room_is_a_gap_and_the_least_important_goes_first(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """Previews go, then events, no job's end; one gap opens and closes; all adds up."""
    bridge = scene.bridge(
        dryapi, outbox_max_bytes=_OUTBOX_BYTES, outbox_buffer_bytes=_BUFFER_BYTES
    )
    await bridge.start_and_wait()
    async with scene.load(bridge) as load:
        own_kafka.pause()
        for _ in range(5):
            await load.run_together([job(20, [_PREVIEW] * 10) for _ in range(10)])
        # Events are dropped by an estimate of the room; full is what was measured.
        while not (
            _dropped(now := await bridge.metrics()) >= _LOST
            and now.total("bridge_outbox_full")
        ):
            await load.run_together([job(40) for _ in range(10)])
        full = await bridge.wait_metrics(lambda now: now.read == load.count)
        assert full.total("bridge_gap_open") == 1
        assert full.total("bridge_gaps_total", cause="outbox_full") == 1

        own_kafka.resume()
        await bridge.wait_logged("outbox.has_space")
        await load.run_together([job(3) for _ in range(10)])
    await bridge.wait_metrics(lambda now: now.total("bridge_gap_open") == 0)
    now = await bridge.wait_metrics(
        lambda now: now.read == load.count == now.published + _dropped(now)
    )
    # Acknowledgements reach the disk a little later than the count.
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    assert now.total("bridge_events_accepted_total") == load.count
    assert now.total("bridge_gaps_total") == 2
    ending = await scene.end(
        label=without_preview,
        missing=_dropped(now),
        gaps=["first_start", "outbox_full"],
        marks={"preview_dropped"},
    )
    assert ending.gaps[-1].until != ending.gaps[-1].since
    _, closed = bridge.logged("gap.closed")
    assert closed["records_lost"] == _dropped(now)
    (over,) = bridge.logged("buffer.has_space")
    assert over["dropped"] == _dropped(now)
    (stopped,) = bridge.logged("service.stopped")
    assert stopped["read"] == stopped["published"] + stopped["dropped"]

    originals = {value for values in load.accepted.values() for value in values}
    kinds = Counter(
        (
            record.headers.get("bridge_normalized") == b"preview_dropped",
            record.value in originals,
        )
        for record in ending.jobs
    )
    # A record is as it came, or says that it has lost its preview.
    assert kinds.keys() == {(True, False), (False, True)}
    assert kinds[True, False] == now.total("bridge_previews_dropped_total")
    last = {record.key: record.value for record in ending.jobs}
    for key, values in load.accepted.items():
        assert last[key.encode()] == values[-1]
