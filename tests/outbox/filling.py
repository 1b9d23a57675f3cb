"""
A process that fills a disk of its own, and prints what the outbox did.

Started by `test_full_disk` with a directory on a small disk; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from bridge.events.record import Importance, Record
from bridge.outbox import Outbox
from bridge.outbox.values import Loss
from tests.outbox.making import (
    number_of,
    numbered,
    opened,
    read_all,
    record,
)


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
    """Make only a preview, an event with one, two without and the last one."""
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


def main() -> None:
    """Fill the disk."""
    with capture_logs():
        facts = last_events_outlive_the_others(Path(sys.argv[1]))
    print(json.dumps(facts))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
