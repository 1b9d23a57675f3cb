"""
What a check comes to: a line for each step, and one exit code for all.

The vocabulary of outcomes and the names of the steps are public: scripts read them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from bridge.errors import ExitCode


__all__ = ["Line", "Outcome", "Report"]


class Outcome(StrEnum):
    """How a step came out."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Line(msgspec.Struct, frozen=True):
    """
    What came of one step.

    Attributes:
        step: Its name, of a closed list: see docs/check.md.
        subject: What it was about: an address, an account, a topic; may be empty.
        outcome: How it came out.
        detail: What was found.
        remedy: What to do about it; empty where there is nothing to do.
        exit_code: What the bridge would exit with; 0 unless it is a failure.
    """

    step: str
    subject: str
    outcome: Outcome
    detail: str
    remedy: str = ""
    exit_code: ExitCode = ExitCode.CLEAN


class Report(msgspec.Struct, frozen=True):
    """
    What all steps came to.

    Attributes:
        lines: The lines, in walking order.
        seconds: How long it took.
    """

    lines: tuple[Line, ...]
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """The first failure's: what comes later may be its consequence."""
        for line in self.lines:
            if line.outcome is Outcome.FAILURE:
                return line.exit_code
        return ExitCode.CLEAN

    @property
    def outcome(self) -> Outcome:
        """The worst of all."""
        found = {line.outcome for line in self.lines}
        for outcome in (Outcome.FAILURE, Outcome.WARNING):
            if outcome in found:
                return outcome
        return Outcome.OK

    def count(self, outcome: Outcome) -> int:
        """Count the lines with an outcome."""
        return sum(line.outcome is outcome for line in self.lines)
