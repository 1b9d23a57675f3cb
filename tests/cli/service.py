"""A service for tests of the command line: it notes its settings and may fail."""

from __future__ import annotations

import gc
import stat
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.pusher.trust import Trust
from bridge.settings import Settings


class FakeService:
    """Stands in for `bridge.service` while the command line is tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: Settings | None = None
        self.warnings: Sequence[str] = ()
        self.trust: Trust | None = None
        self.collects_garbage = False
        self.record: Path | None = None
        # What the file to record to was when the service got it, and what it writes.
        self.recorded: tuple[int, bytes] | None = None
        self.wire = b"one line\n"
        self.error: BaseException | None = None
        module = types.ModuleType("bridge.service")
        module.run = self.run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "bridge.service", module)

    async def run(
        self,
        settings: Settings,
        warnings: Sequence[str],
        *,
        trust: Trust,
        record: Path | None,
    ) -> None:
        """Note what the command line hands over."""
        self.settings = settings
        self.warnings = warnings
        self.trust = trust
        self.collects_garbage = gc.isenabled()
        self.record = record
        if record is not None:
            self._write(record)
        if self.error is not None:
            raise self.error

    def _write(self, record: Path) -> None:
        """Note how the file is handed over, and write to it."""
        self.recorded = stat.S_IMODE(record.stat().st_mode), record.read_bytes()
        with record.open("ab") as file:
            file.write(self.wire)
