"""
A process that fills a disk of its own, and prints what the outbox did.

Started by `test_full_disk` with the name of a scene and a directory on a small disk;
prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from bridge.events.record import Importance, Record
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, Loss
from tests.outbox.making import (
    MIB,
    number_of,
    numbered,
    opened,
    read_all,
    record,
)


_VALUE_BYTES = 1000
_BUFFER_BYTES = 100_000


class _Kafka:
    """Takes rows and acknowledges them."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.sequences: list[int] = []
        self.numbers: list[int] = []

    def take_all(self) -> None:
        """Take what waits, until nothing does."""
        while self._outbox.has_work or self._outbox.statistics.rows:
            self._outbox.commit()
            after = self.sequences[-1] if self.sequences else 0
            rows = self._outbox.read("jobs", 0, after, 500, MIB)
            if rows:
                self.sequences += [row.sequence for row in rows]
                self.numbers += [number_of(row) for row in rows]
                size = sum(len(row.value) for row in rows)
                last = rows[-1].sequence
                self._outbox.acknowledge("jobs", 0, after + 1, last, after, size)
            self._outbox.states("jobs")


def _fill(path: Path) -> None:
    """Take what the disk has left."""
    with path.open("wb", buffering=0) as file:
        for size in (64 * 1024, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


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
    """Make a preview alone, an event with one, two without and the last one."""
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


def webhooks_of_a_full_disk(disk: Path) -> dict[str, Any]:
    """Webhooks come while there is no room, and again when there is."""
    refusals: list[str] = []
    with opened(disk / "outbox") as outbox:
        kafka = _Kafka(outbox)

        def take(number: int) -> bool:
            (given,) = numbered(number, 1, 10 * _VALUE_BYTES)
            taken = outbox.take(Delivery(f"{number}", given, number))
            outbox.commit()
            error = taken.exception(0)
            if error is not None:
                refusals.append(type(error).__name__)
            return error is None

        assert take(0)
        _fill(disk / "filler")
        number = 0
        while len(refusals) < 20:
            number += 1
            take(number)
        asked = outbox.held(1000)
        outbox.commit()
        facts = {"refusals": refusals.copy(), "held_when_full": len(asked.result(0))}
        (disk / "filler").unlink()
        time.sleep(1.1)
        outbox.commit()
        assert take(number)
        asked = outbox.held(1000)
        outbox.commit()
        released = [outbox.release(one.place, ()) for one in asked.result(0)]
        kafka.take_all()
        facts["released"] = [one.result(0) for one in released]
        statistics = outbox.statistics
        facts["accounts"] = statistics.accepted == (
            statistics.committed + statistics.withdrawn
        )
    return facts | {"taken": number, "numbers": kafka.numbers}


_SCENES = {
    scene.__name__: scene
    for scene in (last_events_outlive_the_others, webhooks_of_a_full_disk)
}


def main() -> None:
    """Play one scene."""
    with capture_logs():
        facts = _SCENES[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(facts))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
