"""An outbox's file over many processes: opened, killed with, damaged, replaced."""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path

from bridge.outbox.inheriting import inherit, take_over
from bridge.outbox.jobs.order import Order
from bridge.outbox.opening import Opened, open_outbox
from bridge.outbox.salvage import salvage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.models import job_model
from tests.outbox.making import PLENTY_BYTES


__all__ = ["FOLDER", "OutboxFiles"]

# Nothing of a model needs a disk.
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


class OutboxFiles(RuleBasedStateMachine):
    """
    What becomes of the file; rules that write to it come from who inherits.

    Attributes:
        opened: The file of now; None before the first rule.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=FOLDER)
        self._files = 0
        self._small_steps = job_model.small_steps()
        self._small_steps.start()
        self._opened: Opened | None = None

    @abstractmethod
    def new_order(self) -> Order:
        """Give the judge of a new process."""

    @property
    def opened(self) -> Opened:
        """The file of now."""
        assert self._opened is not None
        return self._opened

    def open_first(self) -> None:
        """Have the first process begin."""
        self._open(self._next_path())

    def _next_path(self) -> Path:
        self._files += 1
        return Path(self._folder.name) / f"{self._files}.sqlite3"

    def _open(self, path: Path) -> None:
        self._path = path
        self._use(open_outbox(path, PLENTY_BYTES, self.new_order()))

    def _use(self, opened: Opened) -> None:
        self._opened, self.store = opened, opened.store
        self.is_open = False

    def teardown(self) -> None:
        """Leave no file behind."""
        if self._opened is not None:
            self.store.close()
        self._folder.cleanup()
        self._small_steps.stop()

    @rule()
    def restart(self) -> None:
        """Another process opens the file."""
        self.store.close()
        self._open(self._path)

    @rule()
    def kill(self) -> None:
        """Another process opens the file as it is, log and all."""
        path = self._next_path()
        for end in ("", "-wal"):
            shutil.copy(f"{self._path}{end}", f"{path}{end}")
        self.store.close()
        self._open(path)

    @rule(knows=st.booleans())
    def set_aside(self, *, knows: bool) -> None:
        """The file is found damaged: by a new process, or one that goes on."""
        damaged, before = self._path, self.store
        before.close()
        if knows:
            self._path = self._next_path()
            self._use(open_outbox(self._path, PLENTY_BYTES, before.order, is_heir=True))
            take_over(damaged, before.remembered, before.pins, self.opened)
        else:
            self._open(self._next_path())
            inherit(damaged, self.opened)
        salvage(damaged, self.opened, lambda *_: 0, lambda: None)
