"""A service for tests of the command line: it notes its settings and may fail."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.http.tls import ReloadingContext
from bridge.settings import Settings


class FakeService:
    """Replaces `bridge.service` while the command line is tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: Settings | None = None
        self.warnings: Sequence[str] = ()
        self.tls: ReloadingContext | None = None
        self.collects_garbage = False
        self.record: Path | None = None
        self.error: BaseException | None = None
        module = types.ModuleType("bridge.service")
        module.run = self.run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "bridge.service", module)

    async def run(
        self,
        settings: Settings,
        warnings: Sequence[str],
        *,
        tls: ReloadingContext,
        record: Path | None,
    ) -> None:
        """Note what the command line hands over."""
        self.settings = settings
        self.warnings = warnings
        self.tls = tls
        self.collects_garbage = gc.isenabled()
        self.record = record
        if self.error is not None:
            raise self.error
