"""
A disk without room, for real: a small tmpfs in a mount namespace of its own.

The bridge keeps what it has, reports it once, drops what has no room, counts it, and
goes on by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from bridge.events.record import Importance, Record
from bridge.outbox import Outbox
from bridge.outbox.values import Loss
from tests.outbox.making import number_of, numbered, opened, read_all, record


@cache
def _unshare() -> tuple[str, ...] | None:
    """Find how this user may make a mount namespace; None if not at all."""
    program = shutil.which("unshare")
    if sys.platform != "linux" or program is None:
        return None
    ways = [(program, "-Urm")]
    if os.geteuid() == 0:
        ways.append((program, "-m"))
    for way in ways:
        tried = subprocess.run(
            [*way, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"],
            check=False,
            capture_output=True,
            timeout=20,
        )
        if tried.returncode == 0:
            return way
    return None


def test_what_matters_most_comes_to_a_full_disk(tmp_path: Path) -> None:
    """Previews go first, then events; last events and the gap's record come to disk."""
    way = _unshare()
    if way is None:
        pytest.skip("this user may not mount a small disk: no user namespaces, no root")
    script = (
        'mount -t tmpfs -o size=6m tmpfs "$1" && mkdir "$1/outbox" &&'
        ' exec "$2" -m tests.outbox.test_full_disk "$1"'
    )
    filled = subprocess.run(
        [*way, "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parents[2],
    )
    assert filled.returncode == 0, filled.stderr
    facts = json.loads(filled.stdout.splitlines()[-1])
    assert facts["dropped_before"] == 0
    numbers, offered = facts["numbers"], facts["offered"]
    assert numbers == sorted(set(numbers))
    assert set(range(4, offered, 5)) <= set(numbers)
    dropped = sum(facts["dropped"].values())
    pictures = facts["dropped_pictures"]
    assert len(numbers) == facts["committed"] == offered - dropped - pictures
    assert 0 < facts["stripped"] <= facts["dropped_previews"]
    # Previews alone are counted apart, and none of them is part of a loss.
    assert pictures > 0
    assert len(set(range(0, offered, 5)) & set(numbers)) == offered // 5 - pictures
    assert facts["kept_when_full"] == 1
    assert facts["causes"] == ["outbox_full"]
    assert facts["bytes"] < 6 * 2**20


# -- What fills it, in a process of its own ------------------------------------------

_VALUE_BYTES = 1000
_BUFFER_BYTES = 100_000


def last_events_outlive_the_others(disk: Path) -> dict[str, Any]:
    """With Kafka away, far more comes than the disk has: most of it is dropped."""
    losses: list[Loss] = []
    kept: list[Outbox] = []

    def on_loss(loss: Loss) -> None:
        losses.append(loss)
        kept[0].keep(record("7", f"{len(losses)}:".encode(), topic="gaps"))

    with opened(
        disk / "outbox",
        buffer_bytes=4 * _BUFFER_BYTES,
        strip_preview=_strip,
        on_loss=on_loss,
    ) as outbox:
        kept.append(outbox)
        statistics = outbox.statistics
        facts: dict[str, Any] = {}
        first = 0
        while sum(statistics.dropped.values()) < 200:
            if not (statistics.dropped_previews and statistics.dropped_pictures):
                facts["dropped_before"] = sum(statistics.dropped.values())
            outbox.offer(_life_of_a_job(first))
            first += 5
            outbox.commit()
        facts["kept_when_full"] = statistics.kept
        folder = disk / "outbox"
        facts["bytes"] = sum(file.stat().st_size for file in folder.iterdir())
        rows = read_all(outbox)
    return facts | {
        "offered": first,
        "dropped": statistics.dropped,
        "dropped_previews": statistics.dropped_previews,
        "dropped_pictures": statistics.dropped_pictures,
        "committed": statistics.committed,
        "numbers": [number_of(row) for row in rows],
        "stripped": sum(len(row.value) < _VALUE_BYTES // 2 for row in rows),
        "causes": [loss.cause for loss in losses],
    }


def _life_of_a_job(first: int) -> list[Record]:
    """Make a preview by itself, an event with one, two without and the last one."""
    importance = [Importance.PICTURE, Importance.PREVIEW, Importance.EVENT]
    importance += [Importance.EVENT, Importance.TERMINAL]
    records = numbered(first, 5, _VALUE_BYTES)
    return [
        msgspec.structs.replace(one, importance=of_one)
        for one, of_one in zip(records, importance, strict=True)
    ]


def _strip(given: Record) -> Record | None:
    if given.importance is not Importance.PREVIEW:
        return None
    value = given.value[: _VALUE_BYTES // 4]
    return msgspec.structs.replace(given, value=value, importance=Importance.EVENT)


if __name__ == "__main__":
    with capture_logs():
        facts = last_events_outlive_the_others(Path(sys.argv[1]))
    print(json.dumps(facts))  # noqa: T201 - its answer
