"""An outbox whose file is harmed, and what it told of that."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.events.record import StoredRecord
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Loss
from bridge.settings import OutboxSettings
from tests.outbox.making import (
    MIB,
    eventually,
    fresh,
    number_of,
    numbered,
    spread,
    threaded,
)


# What `fill` writes.
COUNT = 2000
_PAGE_BYTES = 8192


class Scene:
    """An outbox that runs, with what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[Loss] = []
        self.replaced = 0

    @property
    def database(self) -> Path:
        """The file in use."""
        return self.path / "outbox.sqlite3"

    @property
    def aside(self) -> list[Path]:
        """What was set aside, without its log."""
        found = self.path.glob("outbox.sqlite3.damaged-*")
        return sorted(file for file in found if file.name.endswith("Z"))

    @contextmanager
    def running(self) -> Iterator[Outbox]:
        """Run an outbox on it."""
        with OutboxDirectory(self.path) as directory:
            outbox = Outbox(
                directory, OutboxSettings(dir=self.path), on_loss=self.losses.append
            )
            self.subscribe(outbox)
            with threaded(outbox):
                yield outbox

    def subscribe(self, outbox: Outbox) -> None:
        """Be told when another file is in use."""
        outbox.subscribe(lambda _: None, lambda _: None, self._note_replaced)

    def _note_replaced(self) -> None:
        self.replaced += 1

    def fill(self, acknowledged: int = 0) -> dict[int, str]:
        """Write rows of which Kafka has the first; give the `ce_id`s of all."""
        with self.running() as outbox:
            open_jobs(outbox)
            outbox.offer(numbered(0, COUNT, size=400))
            eventually(lambda: outbox.drained)
            rows = read_all(outbox)
            if acknowledged:
                outbox.acknowledge("jobs", 0, 1, acknowledged, 0, 1)
        return {number_of(row): row.ce_id for row in rows}

    def check_losses(self, since_us: int | None, *, until: bool = True) -> None:
        """One loss, told at its begin and at its end."""
        begin, end = self.losses
        assert begin.cause == end.cause == "outbox_damaged"
        assert begin.number == end.number
        assert begin.since_us == end.since_us == since_us
        assert begin.until_us is None
        assert (end.until_us is not None) is until


def open_jobs(outbox: Outbox) -> None:
    """Open the topic `jobs` with an empty log."""
    outbox.open_topic("jobs", spread(1), fresh(1), None).result(10)


def read_all(outbox: Outbox) -> list[StoredRecord]:
    """Read all rows of the one lane."""
    rows: list[StoredRecord] = []
    while True:
        after = rows[-1].sequence if rows else 0
        more = outbox.read("jobs", 0, after, 1000, MIB).result(10)
        if not more:
            return rows
        rows += more


def read_until_replaced(scene: Scene, outbox: Outbox, times: int = 1) -> None:
    """Do what the relay does, until the damage is found."""
    after = 0
    while scene.replaced < times:
        read = outbox.read("jobs", 0, after, 10, 10 * MIB)
        eventually(read.done)
        if read.cancelled():
            break
        rows = [] if read.exception() else read.result()
        after = rows[-1].sequence if rows else 0
    # What is asked before that may still be taken for a question to the old file.
    scene.subscribe(outbox)


def numbers_of(rows: list[StoredRecord]) -> list[int]:
    """Give the numbers that rows' values begin with."""
    return [number_of(row) for row in rows]


def named(lines: list[Any], event: str) -> list[Any]:
    """Give the lines of a log with a name."""
    return [line for line in lines if line["event"] == event]


def halve(path: Path) -> None:
    """Cut a file in half, between two pages."""
    os.truncate(path, path.stat().st_size // 2 // _PAGE_BYTES * _PAGE_BYTES)


def overwrite_header(path: Path) -> None:
    """Write random bytes where SQLite looks first."""
    with path.open("r+b") as file:
        file.write(random.Random(1).randbytes(100))


def overwrite_page(path: Path) -> None:
    """Write random bytes in the middle, where rows lie."""
    pages = path.stat().st_size // _PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(pages // 2 * _PAGE_BYTES)
        file.write(random.Random(1).randbytes(_PAGE_BYTES))
