"""
The steps of a check, and how they run: each once those that it needs have passed.

Owns deadlines, and which failure skips which steps. Nothing is looked at here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

import trio

from bridge.check.report import Line, Outcome
from bridge.errors import BridgeError, ExitCode


__all__ = ["SkipError", "Step", "Steps"]

# A name, a connection or a response takes milliseconds; a lost packet is sent again
# after one second. Three steps in a row may take as long within the 10 s.
_SECONDS: Final = 3.0

_T = TypeVar("_T")


class SkipError(Exception):
    """A step has nothing to look at: the message says what it needs."""


@dataclass(eq=False)
class Step(Generic[_T]):
    """One step: its function raises a `BridgeError` for a failure, or `SkipError`."""

    # Public: docs/operate/check.md has the names.
    name: str
    # An address, an account, a topic; may be empty.
    subject: str
    # What to do where an error has no hint, or where no response comes.
    hint: str
    # It gets the step, for `detail` and `warn`; what it returns is the `value`.
    look: Callable[[Step[_T]], Awaitable[_T]]
    needs: Sequence[Step[Any]] = ()
    # Whether one of them is enough.
    needs_one: bool = False
    seconds: float = _SECONDS
    # What the bridge would exit with, unless an error has its own.
    exit_code: ExitCode = ExitCode.FAILED
    limiter: trio.CapacityLimiter | None = None
    # Why a failure is only a warning.
    spared: str = ""
    detail: str = ""
    value: _T = field(init=False)
    _warnings: list[tuple[str, str]] = field(default_factory=list)
    _error: BridgeError | None = None
    # What it needs and isn't there.
    missing: str = ""
    _done: trio.Event = field(default_factory=trio.Event)

    def __str__(self) -> str:
        return f"{self.name} of {self.subject}" if self.subject else self.name

    def warn(self, detail: str, hint: str = "") -> None:
        """Note what works and should be different."""
        self._warnings.append((detail, hint or self.hint))

    @property
    def passed(self) -> bool:
        """Whether it is done and has a value."""
        return self._done.is_set() and not (self._error or self.missing)

    async def wait(self) -> bool:
        """Wait until it is done; gives whether it passed."""
        # No deadline: each step has its own.
        await self._done.wait()
        return self.passed

    async def run(self, end: float) -> None:
        """Look, if what it needs has passed, until a time of trio's clock at most."""
        failed = [need for need in self.needs if not await need.wait()]
        if failed and (not self.needs_one or len(failed) == len(self.needs)):
            self.missing = failed[0].missing or str(failed[0])
        else:
            async with self.limiter or nullcontext():
                await self._run(end)
        self._done.set()

    async def _run(self, end: float) -> None:
        begun = trio.current_time()
        try:
            with trio.CancelScope(deadline=min(begun + self.seconds, end)) as scope:
                self.value = await self.look(self)
            if scope.cancelled_caught:
                seconds = trio.current_time() - begun
                self._error = BridgeError(f"no response within {seconds:.1f} s")
        except SkipError as error:
            self.missing = str(error)
        except BridgeError as error:
            self._error = error

    @property
    def lines(self) -> Iterable[Line]:
        """What is known of it, once it is done."""
        line = partial(Line, self.name, self.subject)
        if self.missing:
            yield line(Outcome.SKIPPED, f"needs {self.missing}")
        elif (error := self._error) and self.spared:
            detail = f"{error.message} ({self.spared})"
            yield line(Outcome.WARNING, detail, error.hint or self.hint)
        elif error:
            code = error.exit_code
            code = self.exit_code if code is ExitCode.FAILED else code
            yield line(Outcome.FAILURE, error.message, error.hint or self.hint, code)
        else:
            if self.detail or not self._warnings:
                yield line(Outcome.OK, self.detail)
            for detail, hint in self._warnings:
                yield line(Outcome.WARNING, detail, hint)


class Steps(list[Step[Any]]):
    """The list of steps, in the order of the report."""

    def step(
        self, name: str, subject: str, hint: str, **options: Any
    ) -> Callable[[Callable[[Step[_T]], Awaitable[_T]]], Step[_T]]:
        """Append a function as a step; the options are those of `Step`."""

        def append(look: Callable[[Step[_T]], Awaitable[_T]]) -> Step[_T]:
            step = Step(name, subject, hint, look, **options)
            self.append(step)
            return step

        return append
