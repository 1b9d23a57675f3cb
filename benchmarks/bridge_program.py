"""
The bridge as its users run it, with an outbox of the benchmark's choice.

A program (`python -m benchmarks.bridge_program OUTBOX FILE`): OUTBOX is `disk`, the
bridge's own, or `memory`; when the bridge has ended, FILE says when the broker
acknowledged what. Settings come from the environment, as for `bridge` itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from benchmarks.acknowledgements import Notes
from benchmarks.memory_outbox import MemoryOutbox
from bridge import service
from bridge.cli import root
from bridge.outbox import Outbox, OutboxDirectory
from bridge.record import Loss, Record
from bridge.settings import OutboxSettings


__all__: list[str] = []

_OUTBOXES: dict[str, type[Outbox | MemoryOutbox]] = {
    "disk": Outbox,
    "memory": MemoryOutbox,
}


def _run(kind: str, file: Path) -> None:
    notes = Notes()

    def outbox(
        directory: OutboxDirectory,
        settings: OutboxSettings,
        *,
        lighten: Callable[[Record], Record | None],
        on_loss: Callable[[Loss], None],
    ) -> Outbox | MemoryOutbox:
        made = _OUTBOXES[kind](directory, settings, lighten=lighten, on_loss=on_loss)
        notes.watch(made)
        return made

    with patch.object(service, "Outbox", outbox):
        try:
            root.main(args=[], prog_name="bridge")
        finally:
            notes.save(file)


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]))
