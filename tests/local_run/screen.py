"""
How a run speaks: steps with their time, lines, and the head of the live view.

On a terminal a step that takes long has a spinner, elsewhere a line every few
seconds. What is said stands in `guide` and `summary`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import trio
from rich.console import Console
from rich.text import Text

from tests.local_run.endpoints import BridgeNumbers
from tests.local_run.guide import Addresses, commands
from tests.local_run.ledger import Ledger


__all__ = ["Numbers", "Screen", "head", "numbers_line"]

# Often enough that nobody thinks it hangs, seldom enough for a CI log.
_STILL_SECONDS = 10.0
_SPINNER_SECONDS = 1.0

T = TypeVar("T")


class Screen:
    """Writes to standard output; works without a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    @property
    def is_live(self) -> bool:
        """Whether a live table can be shown."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str) -> None:
        """Write a line as it is; may be called from any thread."""
        self.console.print(text, markup=False, soft_wrap=True)
        # A pipe would show it at the end only.
        sys.stdout.flush()

    async def step(self, title: str, work: Callable[[], Awaitable[T]]) -> T:
        """
        Do something that takes a while and say so.

        Args:
            title: What is done.
            work: Does it, and gives what it has made.
        """
        began = trio.current_time()
        results: list[T] = []
        spinner = self.console.status(f"{title} ...") if self.is_live else None
        if spinner is None:
            self.say(f"{title} ...")

        async def tell() -> None:
            while True:
                await trio.sleep(_SPINNER_SECONDS if spinner else _STILL_SECONDS)
                text = f"{title} ... {trio.current_time() - began:.0f} s"
                if spinner is None:
                    self.say(text)
                else:
                    spinner.update(text)

        with spinner or nullcontext():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                results.append(await work())
                nursery.cancel_scope.cancel()
        self.say(f"{title}: {trio.current_time() - began:.1f} s")
        return results[0]


@dataclass
class Numbers:
    """
    The latest answers of sandbox and bridge.

    Attributes:
        emitted: Events that the sandbox has emitted.
        bridge: What the bridge says of itself; None before its first answer.
    """

    emitted: int = 0
    bridge: BridgeNumbers | None = None


def numbers_line(numbers: Numbers, ledger: Ledger) -> str:
    """Put the counts along an event's way, and the delays, into one line."""
    bridge = numbers.bridge
    read, waiting = (bridge.read, bridge.waiting) if bridge else (0, 0)
    line = (
        f"emitted {numbers.emitted:,}  read {read:,}  outbox {waiting:,}  "
        f"consumed {ledger.consumed:,}"
    )
    recent = ledger.recent()
    if recent is not None:
        p50, p99 = recent
        line += f"  delay p50 {1000 * p50:.0f} ms  p99 {1000 * p99:.0f} ms"
    return line


def head(addresses: Addresses, numbers: Numbers, ledger: Ledger) -> list[Text]:
    """
    Make the lines above the live table; none is wider than the terminal.

    The addresses stay in sight, because the table covers what was said before.
    """
    lines = [
        Text(f"See the jobs in a browser: {addresses.board}"),
        Text(addresses.line(), style="dim"),
        *(Text(line, style="dim") for line in commands(addresses).values()),
        Text(numbers_line(numbers, ledger) + "  (Ctrl-C stops all)"),
        Text(""),
    ]
    for line in lines:
        line.no_wrap = True
        line.overflow = "ellipsis"
    return lines
