"""
Growth with the rows that wait: outboxes that are filled once, and measured in turn.

Owns the folders, topics and processes; what is measured in one is `pending_program`'s.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import ROOT
from benchmarks.course import RunError
from benchmarks.growth.axes import PARTITIONS, Point
from tests.kit.broker import KafkaBroker


__all__ = ["BYTES_A_ROW", "Outboxes", "filled"]

# Not imported: it brings the bridge along.
_PROGRAM = "benchmarks.growth.pending_program"

# What a row of a small event takes on disk, and then half as much again: the log.
BYTES_A_ROW = 400

_FILL_SECONDS = 1200.0
_MEASURE_SECONDS = 400.0


class Outboxes:
    """
    Outboxes with so many rows each.

    Args:
        kafka: The broker that their relays reach.
        folder: Where they stand.
        rows: How many rows are accepted on top, and drained.
    """

    def __init__(self, kafka: KafkaBroker, folder: Path, rows: int) -> None:
        self._kafka = kafka
        self._folder = folder
        self._rows = rows
        self._topic = f"pending-{uuid.uuid4().hex[:12]}"
        self._filled: dict[int, dict[str, float]] = {}

    def topic(self, waiting: int) -> str:
        """Name the topic of the outbox with so many rows."""
        return f"{self._topic}-{waiting}"

    def fill(self, waiting: int) -> dict[str, float]:
        """Let so many rows wait in an outbox of its own."""
        self._kafka.create_topic(self.topic(waiting), PARTITIONS)
        (self._folder / str(waiting)).mkdir()
        self._filled[waiting] = self._call("fill", waiting, waiting, _FILL_SECONDS)
        return self._filled[waiting]

    def point(self, waiting: int) -> Point:
        """
        Measure an outbox; as many rows wait in it afterwards as before.

        Raises:
            RunError: It took too long, or failed.
        """
        figures = self._call("measure", waiting, self._rows, _MEASURE_SECONDS)
        more = {"disk_bytes": self._filled[waiting]["disk_bytes"]}
        return Point("pending", waiting, figures | more)

    def _call(
        self, what: str, waiting: int, rows: int, seconds: float
    ) -> dict[str, float]:
        folder = self._folder / str(waiting)
        arguments = [what, folder, self.topic(waiting), rows]
        command = [sys.executable, "-m", _PROGRAM, *map(str, arguments)]
        try:
            done = subprocess.run(
                [*command, self._kafka.bootstrap_servers],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"{what} with {waiting:,} rows: no end in time") from None
        except subprocess.CalledProcessError as error:
            raise RunError(f"{what} with {waiting:,} rows: {error.stderr}") from None
        # The relay's log lines come before it.
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures


@contextmanager
def filled(
    kafka: KafkaBroker,
    folder: Path,
    sizes: Sequence[int],
    rows: int,
    say: Callable[[str], None],
) -> Iterator[Outboxes]:
    """
    Have outboxes with so many rows each inside the block.

    Args:
        kafka: The broker.
        folder: Where they get room.
        sizes: How many rows wait in each.
        rows: How many are accepted on top, and drained.
        say: Is told how it goes.

    Raises:
        RunError: There is too little room on the disk, or one could not be filled.
    """
    needed = sum(sizes) * BYTES_A_ROW
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{needed / 1e9:.1f} GB are needed in {folder} for outboxes with"
            f" {max(sizes):,} rows, and {free / 1e9:.1f} are free: PENDING= takes fewer"
        )
    outboxes = Outboxes(kafka, folder, rows)
    try:
        for size in sizes:
            figures = outboxes.fill(size)
            say(
                f"an outbox with {size:,} rows, {figures['disk_bytes'] / 1e6:,.0f} MB,"
                f" filled in {figures['fill_seconds']:.1f} s"
            )
        yield outboxes
    finally:
        topics = [
            outboxes.topic(size) for size in sizes if (folder / str(size)).exists()
        ]
        if topics:
            kafka.delete_topics(*topics)
