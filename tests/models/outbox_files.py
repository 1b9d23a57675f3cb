"""An outbox's directory over many processes, with a clock of the model's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import patch

from hypothesis.stateful import RuleBasedStateMachine

from bridge.events.record import StoredRecord
from bridge.outbox import OutboxDirectory
from tests.outbox.making import (
    NOON_US,
    PLENTY_BYTES,
    dead_letter,
    full_disk,
    make_outbox,
)


# Nothing of a model needs a disk.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# What reads the clock of the model.
_CLOCKS = ("outbox", "buffer", "quota", "webhooks", "jobs")


class OutboxFiles(RuleBasedStateMachine):
    """What becomes of the files; rules that write to them come from subclasses."""

    limits: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(dir=_FOLDER))
        )
        self._number = 0
        self.seconds = 100.0
        self.publishes = False
        clock = SimpleNamespace(
            monotonic=lambda: self.seconds,
            monotonic_ns=lambda: round(self.seconds * 10**9),
            time_ns=lambda: NOON_US * 1000 + round(self.seconds * 10**9),
        )
        for module in _CLOCKS:
            self._stack.enter_context(patch(f"bridge.outbox.{module}.time", clock))
        self.open_in(self._folder / "0")

    def open_in(self, path: Path) -> None:
        """Have a new process open the outbox of a directory."""
        self.path = path
        refuse: object = None if self.publishes else dead_letter
        self._directory = OutboxDirectory(path).__enter__()
        self.outbox = make_outbox(
            self._directory, refuse_late=refuse, on_loss=self.lose, **self.limits
        )

    def lose(self, loss: object) -> None:
        """Take notice of a loss: there must be none, if a subclass says nothing."""
        raise AssertionError(loss)

    def restart(self) -> None:
        """Stop in order, and start again."""
        self.outbox.close()
        self._directory.__exit__(None, None, None)
        self.open_in(self.path)

    def copied(self) -> Path:
        """Copy the files as they are, log and all."""
        self._number += 1
        path = self._folder / f"{self._number}"
        path.mkdir(0o700)
        for file in self.path.glob("outbox.sqlite3*"):
            # A second damage so soon would be a disk that fails.
            if not (file.name.endswith("-shm") or ".damaged-" in file.name):
                shutil.copy(file, path)
        return path

    def replace_by(self, path: Path) -> None:
        """Have a process begin on other files; what this one hasn't written is lost."""
        before, directory = self.outbox, self._directory
        self.open_in(path)
        before.close()
        directory.__exit__(None, None, None)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let the disk have no room."""
        with full_disk(self.path):
            yield

    def rows_of(self, topic: str, partition: int) -> list[StoredRecord]:
        """Read all rows of a partition."""
        rows: list[StoredRecord] = []
        after = 0
        while more := self.outbox.read(topic, partition, after, 5, PLENTY_BYTES):
            rows += more
            after = rows[-1].sequence
        return rows

    def teardown(self) -> None:
        """Leave no file behind."""
        self.outbox.close()
        self._directory.__exit__(None, None, None)
        self._stack.close()
