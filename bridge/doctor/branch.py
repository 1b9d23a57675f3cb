"""
Steps that follow one another: what each found, and what a failed one cuts off.

Owns deadlines and the order of lines. Nothing is looked at here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, NoReturn, Self

import trio

from bridge.doctor.remedies import ProblemError, problem_of
from bridge.doctor.report import Line, Outcome
from bridge.errors import BridgeError, ExitCode
from bridge.settings import Account


__all__ = ["Branch", "Found", "side_by_side"]

# A name, a connection or an answer takes milliseconds; a packet that is lost is sent
# again after one second. Three steps in a row may take so long within the 10 s.
_STEP_SECONDS: Final = 3.0

# So many accounts at once: a bridge with hundreds of them does the same.
_AT_ONCE: Final = 16


class _BrokenOffError(Exception):
    """A step failed, and its branch is left."""


class Found:
    """
    What a step has to say.

    Attributes:
        detail: What was found.
    """

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        self.warnings: list[tuple[str, str]] = []

    def warn(self, detail: str, remedy: str) -> None:
        """Note something that works and should be otherwise."""
        self.warnings.append((detail, remedy))


class Branch:
    """
    Steps of which each needs the one before.

    As a context manager it ends where a step fails; what is left is noted as skipped.

    Args:
        subject: What they are about.
        steps: Their names, in order.
        end: When the check ends (trio's clock): no step goes on for longer.
        silence: What to report of a step without an answer, by its name. Its remedy
            is also that of a failure without one.
        exit_code: What the bridge would exit with, unless a failure has its own.

    Attributes:
        failed: The step that cut the rest off, if one did.
    """

    def __init__(
        self,
        subject: str,
        steps: Sequence[str],
        end: float,
        silence: Mapping[str, ProblemError] | None = None,
        exit_code: ExitCode = ExitCode.FAILED,
    ) -> None:
        self.subject = subject
        self._steps = steps
        self._end = end
        self._silence = silence or {}
        self._exit_code = exit_code
        self._lines: dict[str, list[Line]] = {}
        self.failed: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return isinstance(error, _BrokenOffError)

    @property
    def lines(self) -> list[Line]:
        """What is known of each step, in order."""
        lines = []
        for step in self._steps:
            why = self.failed or "an earlier step failed"
            skipped = Line(step, self.subject, Outcome.SKIPPED, f"needs {why}")
            lines += self._lines.get(step, [skipped])
        return lines

    @contextmanager
    def step(self, name: str, seconds: float = _STEP_SECONDS) -> Iterator[Found]:
        """
        Take a step; an error of ours in it is a failure, and so is no end in time.

        Args:
            name: Its name. The failure is that of an earlier one that hasn't `passed`.
            seconds: How long it may take.
        """
        found = Found()
        begun = trio.current_time()
        try:
            with trio.CancelScope(deadline=min(begun + seconds, self._end)) as scope:
                yield found
            if scope.cancelled_caught:
                raise self._unanswered(trio.current_time() - begun)
        except BridgeError as error:
            self._fail(self._open, problem_of(error))
            raise _BrokenOffError from error
        self.passed(name, found)

    @property
    def _open(self) -> str:
        """The first step of which nothing is known."""
        return next(step for step in self._steps if step not in self._lines)

    def _unanswered(self, seconds: float) -> ProblemError:
        silence = self._silence.get(self._open)
        detail = f"no answer within {seconds:.1f} s"
        if silence is None:
            return ProblemError(detail)
        return ProblemError(f"{detail}: {silence.detail}")

    def passed(self, name: str, found: Found) -> None:
        """Note that a step went well, apart from what it warns of."""
        lines = [
            Line(name, self.subject, Outcome.WARNING, detail, remedy)
            for detail, remedy in found.warnings
        ]
        if found.detail or not lines:
            lines.insert(0, Line(name, self.subject, Outcome.OK, found.detail))
        self._lines[name] = lines

    def has(self, name: str) -> bool:
        """Tell whether something is known of a step."""
        return name in self._lines

    def _fail(self, name: str, problem: ProblemError) -> None:
        self.failed = f"{name} of {self.subject}" if self.subject else name
        remedy, exit_code = problem.remedy, problem.exit_code
        if not remedy and name in self._silence:
            remedy = self._silence[name].remedy
        if exit_code is ExitCode.FAILED:
            exit_code = self._exit_code
        self._lines[name] = [
            Line(
                name,
                self.subject,
                Outcome.FAILURE,
                problem.detail,
                remedy,
                exit_code,
            )
        ]

    def blame(self, name: str, problem: ProblemError) -> NoReturn:
        """Note that an earlier step failed after all, and leave the branch."""
        self._fail(name, problem)
        raise _BrokenOffError from problem

    def soften(self, remark: str) -> None:
        """Let failures count as warnings, because others make up for them."""
        for lines in self._lines.values():
            lines[:] = [
                Line(
                    line.step,
                    line.subject,
                    Outcome.WARNING,
                    f"{line.detail} ({remark})",
                    line.remedy,
                )
                if line.outcome is Outcome.FAILURE
                else line
                for line in lines
            ]


async def side_by_side(
    branches: Sequence[Branch],
    accounts: Sequence[Account],
    walk: Callable[[Branch, Account], Awaitable[None]],
) -> None:
    """Walk the branches of accounts, not too many at once."""
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def walk_one(branch: Branch, account: Account) -> None:
        async with limit:
            await walk(branch, account)

    async with trio.open_nursery() as nursery:
        for branch, account in zip(branches, accounts, strict=True):
            nursery.start_soon(walk_one, branch, account)
