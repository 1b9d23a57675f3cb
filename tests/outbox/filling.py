"""
A process that fills a disk of its own, and prints what the outbox did.

Started by `test_full_disk` with the name of a scene and a directory on a small disk;
prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from bridge.errors import OutboxError
from bridge.events.record import Importance, Record
from bridge.outbox import Outbox
from bridge.outbox.values import Delivery, Loss
from tests.outbox.making import (
    MIB,
    event,
    number_of,
    numbered,
    opened,
    read_all,
    record,
    source_of,
)


_VALUE_BYTES = 1000
_BUFFER_BYTES = 100_000
_FOR_EVER = 1e11


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
                self.numbers += [
                    number_of(row) for row in rows if row.value[:1] != b"{"
                ]
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


def _fill_up(outbox: Outbox, records: Callable[[int], list[Record]]) -> int:
    """Offer until something was dropped because the disk is full."""
    first = 0
    while not outbox.statistics.dropped["outbox_full"]:
        new = records(first)
        outbox.offer(new)
        first += len(new)
        outbox.commit()
    return first


def the_outbox_fills_it(disk: Path) -> dict[str, Any]:
    """Kafka is away until the disk is full, and comes back."""
    with opened(disk / "outbox", buffer_bytes=_BUFFER_BYTES) as outbox:
        kafka, statistics = _Kafka(outbox), outbox.statistics
        first = _fill_up(outbox, lambda first: numbered(first, 10, _VALUE_BYTES))
        facts = {"committed_when_full": statistics.committed}
        kafka.take_all()
        # It is measured once a second whether there is room.
        time.sleep(1.1)
        outbox.commit()
        # Four times what the disk can hold goes through it now.
        for _ in range(800):
            outbox.offer(numbered(first, 10, _VALUE_BYTES))
            first += 10
            kafka.take_all()
    return facts | {
        "offered": first,
        "accepted": statistics.accepted,
        "dropped": statistics.dropped,
        "committed": statistics.committed,
        "acknowledged": statistics.topics["jobs"].acknowledged,
        "sequences": kafka.sequences,
    }


def no_file_may_grow_longer(disk: Path) -> dict[str, Any]:
    """The same where the disk has room, but files have a limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, hard))
    return the_outbox_fills_it(disk)


def jobs_of_a_full_disk(disk: Path) -> dict[str, Any]:
    """Kafka is away until the disk is full of jobs that have begun, and comes back."""
    limits = {"buffer_bytes": _BUFFER_BYTES, "keep_jobs_seconds": _FOR_EVER}
    with opened(disk / "outbox", **limits) as outbox:
        kafka, statistics, jobs = _Kafka(outbox), outbox.statistics, outbox.jobs

        def records(first: int) -> list[Record]:
            outbox.prove({source_of(7): first})
            return [_large(f"{n}", n) for n in range(first, first + 20)]

        first = _fill_up(outbox, records)
        facts: dict[str, Any] = {"committed_when_full": statistics.committed}
        facts["jobs_when_full"] = jobs.count(source_of(7))
        kafka.take_all()
        time.sleep(1.1)
        outbox.commit()
        outbox.offer([event("0", "done", first), event("last", at_us=first)])
        kafka.take_all()
        facts["jobs"] = sorted(job.request_id for job in jobs.of(source_of(7)))
    with opened(disk / "outbox", **limits) as outbox:
        known = outbox.jobs.of(source_of(7))
        facts["known"] = sorted(job.request_id for job in known)
        facts["was_stopped"] = outbox.memory.was_stopped
    return facts | {"offered": first, "committed": statistics.committed}


def _large(job: str, at_us: int) -> Record:
    small = event(job, at_us=at_us)
    preview = b'"preview": "%b"' % (_VALUE_BYTES * b"x")
    value = small.value.replace(b'"preview": null', preview)
    return msgspec.structs.replace(small, value=value)


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


def it_is_full_at_the_start(disk: Path) -> dict[str, Any]:
    """Nothing can be made on the disk."""
    _fill(disk / "filler")
    return _refused(disk)


def it_is_read_only(disk: Path) -> dict[str, Any]:
    """The directory is there, and nobody may write."""
    return _refused(disk)


def _refused(disk: Path) -> dict[str, Any]:
    try:
        with opened(disk / "outbox"):
            return {"error": None}
    except OutboxError as error:
        return {"error": str(error), "kind": type(error).__name__}


_SCENES = {
    scene.__name__: scene
    for scene in (
        the_outbox_fills_it,
        no_file_may_grow_longer,
        jobs_of_a_full_disk,
        last_events_outlive_the_others,
        webhooks_of_a_full_disk,
        it_is_full_at_the_start,
        it_is_read_only,
    )
}


def main() -> None:
    """Play one scene."""
    with capture_logs() as lines:
        facts = _SCENES[sys.argv[1]](Path(sys.argv[2]))
    facts["events"] = [line["event"] for line in lines]
    print(json.dumps(facts))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
