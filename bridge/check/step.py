"""
A step of the check, and how it runs: once the steps that it needs have passed.

Owns deadlines, and which failure skips which steps. Nothing is looked at here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, Generic, TypeVar

import trio

from bridge.check.report import Line, Outcome
from bridge.errors import BridgeError, ExitCode


__all__ = ["SkipError", "Step"]

# A name, a connection or a response takes milliseconds; a lost packet is sent again
# after one second. Three steps in a row may take as long within the 10 s.
_SECONDS: Final = 3.0

_T = TypeVar("_T")


class SkipError(Exception):
    """A step has nothing to look at: the message says what it needs."""


class Step(Generic[_T]):
    """
    One step; what its function returns is the `value` for the steps that need it.

    Args:
        name: Its name: see docs/check.md.
        subject: What is looked at: an address, an account, a topic; may be empty.
        look: The function. It gets the step, for its `detail` and `warn`; it raises a
            `BridgeError` for a failure, or a `SkipError`.
        hint: What to do where an error has no hint, or where no response comes.
        needs: The steps that must have passed before.
        needs_one: Whether one of them is enough.
        seconds: How long it may take.
        exit_code: What the bridge would exit with, unless an error has its own.
        limiter: Limits how many steps run at the same time.
        spared: Why a failure is only a warning; empty if it is one.

    Attributes:
        detail: What was found.
        value: What the function returned.
    """

    def __init__(  # noqa: PLR0913 - a row of the list
        self,
        name: str,
        subject: str,
        look: Callable[[Step[_T]], Awaitable[_T]],
        hint: str,
        *,
        needs: Sequence[Step[Any]] = (),
        needs_one: bool = False,
        seconds: float = _SECONDS,
        exit_code: ExitCode = ExitCode.FAILED,
        limiter: trio.CapacityLimiter | None = None,
        spared: str = "",
    ) -> None:
        self.name = name
        self.subject = subject
        self.spared = spared
        self.detail = ""
        self.value: _T
        self._look = look
        self._hint = hint
        self._needs = needs
        self._needs_one = needs_one
        self._seconds = seconds
        self._exit_code = exit_code
        self._limiter = limiter
        self._warnings: list[tuple[str, str]] = []
        self._error: BridgeError | None = None
        # What it needs and isn't there.
        self._missing = ""
        self._done = trio.Event()

    def warn(self, detail: str, hint: str) -> None:
        """Note what works and should be different."""
        self._warnings.append((detail, hint))

    @property
    def passed(self) -> bool:
        """Whether it is done and has a value."""
        return self._done.is_set() and not (self._error or self._missing)

    async def wait(self) -> bool:
        """Wait until it is done; gives whether it passed."""
        # No deadline: each step has its own.
        await self._done.wait()
        return self.passed

    async def run(self, end: float) -> None:
        """Look, if what it needs has passed, until a time of trio's clock at most."""
        failed = [need for need in self._needs if not await need.wait()]
        if failed and (not self._needs_one or len(failed) == len(self._needs)):
            self._missing = failed[0].failure
        else:
            async with self._limiter or nullcontext():
                await self._run(end)
        self._done.set()

    async def _run(self, end: float) -> None:
        begun = trio.current_time()
        try:
            with trio.CancelScope(deadline=min(begun + self._seconds, end)) as scope:
                self.value = await self._look(self)
            if scope.cancelled_caught:
                seconds = trio.current_time() - begun
                self._error = BridgeError(f"no response within {seconds:.1f} s")
        except SkipError as error:
            self._missing = str(error)
        except BridgeError as error:
            self._error = error

    @property
    def failure(self) -> str:
        """The failure that skips those that need this step, once it hasn't passed."""
        subject = f" of {self.subject}" if self.subject else ""
        return self._missing or f"{self.name}{subject}"

    @property
    def lines(self) -> list[Line]:
        """What is known of it, once it is done."""
        if self._missing:
            return [self._line(Outcome.SKIPPED, f"needs {self._missing}")]
        if error := self._error:
            detail, hint = error.message, error.hint or self._hint
            if self.spared:
                return [self._line(Outcome.WARNING, f"{detail} ({self.spared})", hint)]
            code = error.exit_code
            code = self._exit_code if code is ExitCode.FAILED else code
            return [self._line(Outcome.FAILURE, detail, hint, code)]
        found = [self._line(Outcome.WARNING, *one) for one in self._warnings]
        if self.detail or not found:
            found.insert(0, self._line(Outcome.OK, self.detail))
        return found

    def _line(
        self,
        outcome: Outcome,
        detail: str,
        hint: str = "",
        exit_code: ExitCode = ExitCode.CLEAN,
    ) -> Line:
        return Line(self.name, self.subject, outcome, detail, hint, exit_code)
