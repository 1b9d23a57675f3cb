"""
The bridge as its users run it, with an outbox of the benchmark's choice.

A program (`python -m benchmarks.bridge_program OUTBOX FILE`): OUTBOX is `disk`, the
bridge's own, or `memory`; when the bridge has ended, FILE says when the broker
acknowledged what. Settings come from the environment, as for `bridge` itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest.mock import patch

from benchmarks.acknowledgements import Notes
from benchmarks.memory_outbox import MemoryOutbox
from bridge import service
from bridge.cli import root
from bridge.outbox import Outbox, OutboxDirectory
from bridge.record import Loss, Record
from bridge.settings import OutboxSettings, WebhookSettings


__all__: list[str] = []

_P = ParamSpec("_P")
_T = TypeVar("_T")

_OUTBOXES: dict[str, type[Outbox | MemoryOutbox]] = {
    "disk": Outbox,
    "memory": MemoryOutbox,
}


def _run(kind: str, file: Path) -> None:
    notes = Notes()

    def outbox(  # noqa: PLR0913 - the service's call
        directory: OutboxDirectory,
        settings: OutboxSettings,
        *,
        lighten: Callable[[Record], Record | None],
        on_loss: Callable[[Loss], None],
        refuse_late: Callable[[Record], Record] | None,
        webhook: WebhookSettings,
    ) -> Outbox | MemoryOutbox:
        made = _OUTBOXES[kind](
            directory,
            settings,
            lighten=lighten,
            on_loss=on_loss,
            refuse_late=refuse_late,
            webhook=webhook,
        )
        notes.watch(made)
        # Both are called first in the threads that they name.
        made.run = _naming("outbox", made.run)  # type: ignore[method-assign]
        made.subscribe = _naming("kafka", made.subscribe)  # type: ignore[method-assign]
        return made

    with patch.object(service, "Outbox", outbox):
        try:
            root.main(args=[], prog_name="bridge")
        finally:
            notes.save(file)


def _naming(name: str, call: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a call name its thread for the system, which shows its CPU time."""

    def called(*arguments: _P.args, **named: _P.kwargs) -> _T:
        # OSError: where this isn't Linux, threads go without names.
        with suppress(OSError):
            file = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
            file.write_text(name)
        return call(*arguments, **named)

    return called


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]))
