"""
How far a replay has come, while it runs: one bar after the other, or lines.

Owns the change from one to the next; how one looks is that of a proof.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console

from bridge.consumer.verify import Watch
from bridge.kafka.scan import Progress


__all__ = ["Phases"]


class Phases:
    """
    Shows what is read just now, on standard error.

    Args:
        console: Standard error.
        write_line: Takes a line where the console is no terminal.
    """

    def __init__(self, console: Console, write_line: Callable[[str], None]) -> None:
        self._console = console
        self._write_line = write_line
        self._what: str | None = None
        self._watch: Watch | None = None
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shown.close()

    def update(self, what: str, progress: Progress) -> None:
        """
        Take in how far it has come.

        Args:
            what: What is done, in a word or two.
            progress: How much of that.
        """
        if self._watch is None or what != self._what:
            self._shown.close()
            self._what = what
            watch = Watch(what, self._console, self._write_line)
            self._watch = self._shown.enter_context(watch)
        self._watch.update(progress)
