"""
Which step of a program takes memory for much, seen from outside.

A copy of many bytes needs room for them. `Watch` looks at the allocator between any two
steps of the interpreter, in the thread that it was made in, so that each large piece of
memory is put down to the line that took it, what was freed again within the step
included. What takes no memory of Python's (the kernel, SQLite) isn't seen here.
"""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Self


__all__ = ["Allocation", "Watch"]

# What the interpreter takes for itself between two steps stays far below.
_LARGE_BYTES = 8192

# They take a buffer, give back what wasn't filled, and copy nothing more.
_RECEIVING = frozenset(
    {
        "_SocketType._nonblocking_helper",
        "_SelectorSocketTransport._read_ready__data_received",
    }
)


@dataclass(frozen=True)
class Allocation:
    """
    A large piece of memory that one step took.

    Attributes:
        place: The function, with its module.
        kept_bytes: How much more there was after the step.
        passing_bytes: How much more there was within it, and no longer after it.
    """

    place: str
    kept_bytes: int
    passing_bytes: int


class Watch:
    """
    A context manager that lists large allocations of its own thread inside it.

    Attributes:
        allocations: In order.
    """

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []
        self._place = ""
        self._is_receiving = False
        self._current = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        tracemalloc.start()
        tracemalloc.reset_peak()
        self._current, _ = tracemalloc.get_traced_memory()
        sys.settrace(self._step)
        # The frame that goes on now has begun before.
        caller = sys._getframe(1)  # noqa: SLF001 - the way to it
        caller.f_trace, caller.f_trace_opcodes = self._step, True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._look()
        sys._getframe(1).f_trace = self._before  # noqa: SLF001 - as above
        sys.settrace(self._before)
        tracemalloc.stop()

    def _step(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """Be called by the interpreter before each of its steps."""
        self._look()
        frame.f_trace_opcodes = True
        name = frame.f_code.co_qualname
        self._place = f"{frame.f_globals.get('__name__', '')}.{name}"
        self._is_receiving = name in _RECEIVING
        return self._step

    def _look(self) -> None:
        current, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        kept = max(0, current - self._current)
        passing = 0 if self._is_receiving else peak - max(current, self._current)
        self._current = current
        if max(kept, passing) >= _LARGE_BYTES:
            self.allocations.append(Allocation(self._place, kept, passing))
