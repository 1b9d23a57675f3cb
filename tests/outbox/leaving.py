"""What a process would leave behind, if it died just now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge.errors import OutboxFullError
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Memory
from bridge.settings import OutboxSettings


# The events of these tests are of 1970.
FOR_EVER = 1e11

NOTHING = Memory(proved_us={}, was_stopped=False, left_gaps=())


@contextmanager
def standing(path: Path, **limits: Any) -> Iterator[Outbox]:
    """Hold an outbox whose thread doesn't run; what it holds is lost, as by a crash."""
    with OutboxDirectory(path) as directory:
        settings = OutboxSettings(dir=path, keep_jobs_seconds=FOR_EVER, **limits)
        outbox = Outbox(directory, settings)
        try:
            yield outbox
        finally:
            if not outbox.has_ended:
                _end(path, outbox)


def _end(path: Path, outbox: Outbox) -> None:
    """Close an outbox, and put its file back to what it was before."""
    kept = {file: file.read_bytes() for file in path.glob("outbox.sqlite3*")}
    outbox.stop()
    outbox.run()
    for file, content in kept.items():
        if not file.name.endswith("-shm"):
            file.write_bytes(content)


def found(path: Path) -> Memory:
    """Read what another process would find now; nothing is changed by that."""
    with tempfile.TemporaryDirectory() as folder:
        copy_file(path, Path(folder))
        with standing(Path(folder)) as outbox:
            return outbox.memory


def copy_file(path: Path, to: Path) -> None:
    """Give another directory the file as it would be if its process died just now."""
    to.mkdir(exist_ok=True)
    for name in ("outbox.sqlite3", "outbox.sqlite3-wal"):
        if (path / name).exists():
            (to / name).write_bytes((path / name).read_bytes())


def gap_value(number: int) -> bytes:
    """Give what a gap record says."""
    return b'{"gap_id":"%d"}' % number


def refuse(*_: object) -> None:
    """Be a disk that is full."""
    raise OutboxFullError("no room")
