"""
A process that fills a disk of its own, and tells what the outbox did.

Started by `test_full_disk` with the name of a scene and a directory on a small
disk; prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from bridge.errors import OutboxError
from bridge.events.record import Importance, Origin, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Delivery, Loss
from bridge.settings import OutboxSettings
from tests.outbox.healing import told_by
from tests.outbox.leaving import found
from tests.outbox.making import (
    MIB,
    Log,
    event,
    eventually,
    fresh,
    number_of,
    numbered,
    read_all,
    record,
    running,
    source_of,
    spread,
    stored,
    threaded,
)


_VALUE_BYTES = 1000
_BUFFER_BYTES = 100_000
_FOR_EVER = 1e11


def _open(outbox: Outbox) -> None:
    outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)


def _fill(path: Path) -> None:
    """Take what the disk has left."""
    with path.open("wb", buffering=0) as file:
        for size in (64 * 1024, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def the_outbox_fills_it(disk: Path) -> dict[str, Any]:
    """Kafka is away until the disk is full, and comes back."""
    facts: dict[str, Any] = {}
    with (
        running(disk / "outbox", buffer_bytes=_BUFFER_BYTES) as outbox,
        Log(outbox, delivers=False) as log,
    ):
        statistics = outbox.statistics
        _open(outbox)
        first = 0
        while not statistics.dropped["outbox_full"]:
            outbox.offer(numbered(first, 10, _VALUE_BYTES))
            first += 10
            eventually(lambda: outbox.drained or statistics.full)
        kept = facts["committed_when_full"] = statistics.committed
        eventually(lambda: len(log.rows["jobs", 0]) == kept)
        log.delivers = True
        outbox.acknowledge("jobs", 0, 1, kept, 0, kept * _VALUE_BYTES)
        eventually(lambda: outbox.drained and statistics.rows == 0)
        # Four times what the disk can hold goes through it now.
        for _ in range(800):
            outbox.offer(numbered(first, 10, _VALUE_BYTES))
            first += 10
            eventually(lambda: outbox.drained)
        eventually(lambda: statistics.rows == 0)
    facts |= {
        "offered": first,
        "accepted": statistics.accepted,
        "dropped": statistics.dropped,
        "committed": statistics.committed,
        "acknowledged": statistics.acknowledged,
        "sequences": [row.sequence for row in log.rows["jobs", 0]],
    }
    return facts


def no_file_may_grow_longer(disk: Path) -> dict[str, Any]:
    """The same where the disk has room, but files have a limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, hard))
    return the_outbox_fills_it(disk)


def jobs_of_a_full_disk(disk: Path) -> dict[str, Any]:
    """Kafka is away until the disk is full of jobs that have begun, and comes back."""
    facts: dict[str, Any] = {}
    limits = {"buffer_bytes": _BUFFER_BYTES, "keep_jobs_seconds": _FOR_EVER}
    with (
        running(disk / "outbox", **limits) as outbox,
        Log(outbox, delivers=False) as log,
    ):
        statistics, jobs = outbox.statistics, outbox.jobs
        _open(outbox)
        first = 0
        while not statistics.dropped["outbox_full"]:
            outbox.offer([_large(f"{n}", n) for n in range(first, first + 20)])
            first += 20
            eventually(lambda: outbox.drained or statistics.full)
            outbox.prove({source_of(7): 10 * first})
        facts["proved_when_full"] = found(disk / "outbox").proved_us
        kept = facts["committed_when_full"] = statistics.committed
        facts["given_up_when_full"] = sum(statistics.dropped.values())
        facts["jobs_when_full"] = jobs.count(source_of(7))
        eventually(lambda: len(log.rows["jobs", 0]) == kept)
        log.delivers = True
        outbox.acknowledge("jobs", 0, 1, kept, 0, kept * _VALUE_BYTES)
        eventually(lambda: outbox.drained and statistics.rows == 0)
        outbox.offer([event("0", "done", first), event("last", at_us=first)])
        eventually(lambda: outbox.drained and statistics.rows == 0)
        facts["jobs"] = sorted(job.request_id for job in jobs.of(source_of(7)))
    with stored(disk / "outbox" / "outbox.sqlite3") as store:
        known = store.jobs.of(source_of(7))
        facts["known"] = sorted(job.request_id for job in known)
        facts["was_stopped"] = store.remembered.was_stopped
    return facts | {"offered": first, "committed": statistics.committed}


def _large(job: str, at_us: int) -> Record:
    small = event(job, at_us=at_us)
    preview = b'"preview": "%b"' % (_VALUE_BYTES * b"x")
    value = small.value.replace(b'"preview": null', preview)
    return msgspec.structs.replace(small, value=value)


def last_events_outlive_the_others(disk: Path) -> dict[str, Any]:
    """With Kafka away, far more comes than the disk has: most of it is given up."""
    facts: dict[str, Any] = {"losses": []}
    kept: list[Outbox] = []

    def on_loss(loss: Loss) -> None:
        facts["losses"].append(msgspec.structs.asdict(loss))
        gap = record("7", f"{len(facts['losses'])}:".encode(), topic="jobs.gaps")
        kept[0].keep(gap)

    limits = OutboxSettings(dir=disk / "outbox", buffer_bytes=4 * _BUFFER_BYTES)
    with OutboxDirectory(limits.dir) as directory:
        outbox = Outbox(directory, limits, lighten=_lighten, on_loss=on_loss)
        kept.append(outbox)
        statistics = outbox.statistics
        with threaded(outbox):
            for topic in ("jobs", "jobs.gaps"):
                outbox.open_topic(topic, spread(1), fresh(1), None).result(10)
            first = 0
            while not (
                statistics.dropped_previews
                and statistics.dropped_pictures
                and _committed_in_time(outbox)
            ):
                outbox.offer(_life_of_a_job(first))
                first += 5
            facts["dropped_before_any_preview"] = sum(statistics.dropped.values())
            while sum(statistics.dropped.values()) < 200:
                outbox.offer(_life_of_a_job(first))
                first += 5
                _committed_in_time(outbox)
            eventually(lambda: statistics.kept == 1)
            facts["full_with_a_gap"] = statistics.full
            facts["bytes"] = sum(file.stat().st_size for file in limits.dir.iterdir())
    with stored(limits.dir / "outbox.sqlite3") as store:
        rows = read_all(store)
        facts["gaps"] = len(store.read("jobs.gaps", 0, 0, 10, MIB))
    return facts | {
        "offered": first,
        "dropped": statistics.dropped,
        "dropped_previews": statistics.dropped_previews,
        "dropped_pictures": statistics.dropped_pictures,
        "committed": statistics.committed,
        "numbers": [number_of(row) for row in rows],
        "lightened": sum(len(row.value) < _VALUE_BYTES // 2 for row in rows),
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


def _lighten(given: Record) -> Record | None:
    if given.importance is not Importance.PREVIEW:
        return None
    value = given.value[: _VALUE_BYTES // 4]
    return msgspec.structs.replace(given, value=value, importance=Importance.EVENT)


def _committed_in_time(outbox: Outbox) -> bool:
    """Stand back while the disk takes rows, as the reader does; always true."""
    eventually(lambda: not outbox.is_crowded())
    return True


def webhooks_of_a_full_disk(disk: Path) -> dict[str, Any]:
    """Webhooks come while there is no room, and again when there is."""
    facts: dict[str, Any] = {"refusals": [], "slowest_seconds": 0.0}
    with running(disk / "outbox") as outbox, Log(outbox) as log:
        _open(outbox)
        assert outbox.take(_large_delivery(0)).result(10)
        _fill(disk / "filler")
        number = 0
        while len(facts["refusals"]) < 20:
            number += 1
            begun = time.monotonic()
            refusal = outbox.take(_large_delivery(number)).exception(10)
            if refusal is not None:
                facts["refusals"].append(type(refusal).__name__)
            took = time.monotonic() - begun
            facts["slowest_seconds"] = max(facts["slowest_seconds"], took)
        # All that was taken can be read.
        facts["held_when_full"] = len(outbox.held(1000).result(10))
        (disk / "filler").unlink()
        eventually(lambda: outbox.take(_large_delivery(number)).exception(10) is None)
        held = outbox.held(1000).result(10)
        facts["released"] = [outbox.release(one.place, ()).result(10) for one in held]
        eventually(lambda: outbox.statistics.rows == 0)
        tally = outbox.statistics.tallies.read()["event", "webhook"]
        facts |= msgspec.structs.asdict(tally)
    return facts | {
        "taken": number,
        "numbers": [number_of(row) for row in log.rows["jobs", 0]],
    }


def _large_delivery(number: int) -> Delivery:
    (given,) = numbered(number, 1, 10 * _VALUE_BYTES)
    return Delivery(f"{number}", told_by(Origin.WEBHOOK, given), number)


def it_is_full_at_the_start(disk: Path) -> dict[str, Any]:
    """Nothing can be made on the disk."""
    _fill(disk / "filler")
    return _refused(disk)


def it_is_read_only(disk: Path) -> dict[str, Any]:
    """The directory is there, and nobody may write."""
    return _refused(disk)


def _refused(disk: Path) -> dict[str, Any]:
    try:
        with running(disk / "outbox"):
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
    facts["reasons"] = [line["reason"] for line in lines if "reason" in line]
    print(json.dumps(facts))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
