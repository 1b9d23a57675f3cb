"""
The report of a check: a line for each step, and one exit code; as text or as JSON.

Outcomes, the names of steps and the members of the JSON object are public: scripts
read them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from bridge.errors import ExitCode
from bridge.text import printable, printable_json, redact


__all__ = ["Line", "Outcome", "Report", "as_json", "show"]


class Outcome(StrEnum):
    """The result of a step."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Line(msgspec.Struct, frozen=True):
    """
    One result of a step.

    Attributes:
        step: The step's name: see docs/operate/check.md.
        subject: What was looked at: an address, an account, a topic; may be empty.
        outcome: The result.
        detail: What was found.
        hint: What to do about it; empty where there is nothing to do.
        exit_code: What the bridge would exit with; 0 unless it is a failure.
    """

    step: str
    subject: str
    outcome: Outcome
    detail: str
    hint: str = msgspec.field(name="remedy", default="")
    exit_code: ExitCode = ExitCode.CLEAN


class Report(msgspec.Struct, frozen=True):
    """
    The results of all steps.

    Attributes:
        lines: The lines, in the order of the steps.
        seconds: How long it took.
    """

    lines: tuple[Line, ...]
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """The first failure's: later ones may follow from it."""
        codes = (x.exit_code for x in self.lines if x.outcome is Outcome.FAILURE)
        return next(codes, ExitCode.CLEAN)

    @property
    def outcome(self) -> Outcome:
        """The worst of all."""
        found = {line.outcome for line in self.lines}
        worst = (one for one in (Outcome.FAILURE, Outcome.WARNING) if one in found)
        return next(worst, Outcome.OK)


def as_json(report: Report) -> bytes:
    """Encode a report as one JSON object, without secrets."""
    encoded: dict[str, object] = {
        "outcome": report.outcome,
        "exit_code": report.exit_code,
        "seconds": round(report.seconds, 3),
        "checks": [_redacted(line) for line in report.lines],
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(encoded)))


def _redacted(line: Line) -> Line:
    """Hide secrets that a server repeats, or that are in the wrong setting."""
    names = ("subject", "detail", "hint")
    hidden = {name: redact(getattr(line, name)) for name in names}
    return msgspec.structs.replace(line, **hidden)


# The mark of a line on a terminal, and its color.
_MARKS: Final = {
    Outcome.OK: ("✓", "green"),
    Outcome.WARNING: ("!", "yellow"),
    Outcome.FAILURE: ("✗", "bold red"),
    Outcome.SKIPPED: ("-", "dim"),
}
_WORD_WIDTH: Final = max(len(outcome) for outcome in Outcome)


def show(report: Report, console: Console) -> None:
    """
    Print the lines, the hint of each failure and warning, and a verdict.

    Args:
        report: The report.
        console: A terminal gets marks and colors, all else words.
    """
    has_marks = console.is_terminal and "utf" in console.encoding
    width = max((len(line.step) for line in report.lines), default=0)
    for line in map(_redacted, report.lines):
        mark, style = _MARKS[line.outcome]
        word = mark if has_marks else f"{line.outcome:{_WORD_WIDTH}}"
        rest = ": ".join(_line(x) for x in (line.subject, line.detail) if x)
        is_ok = line.outcome is Outcome.OK
        text = Text.assemble(
            (word, style),
            (f" {line.step:{width}} ", "" if is_ok else style),
            (f" {rest}", "dim" if is_ok or line.outcome is Outcome.SKIPPED else ""),
        )
        if line.hint:
            text.append(f"\n{'':{len(word)}}   -> {_line(line.hint)}")
        console.print(text, soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def _verdict(report: Report) -> Text:
    found = [line.outcome for line in report.lines]
    counts = [
        f"{count} {outcome}"
        + ("s" if count > 1 and outcome in {Outcome.WARNING, Outcome.FAILURE} else "")
        for outcome in Outcome
        if (count := found.count(outcome))
    ]
    took = f"{', '.join(counts)}, in {report.seconds:.1f} s."
    if report.outcome is Outcome.FAILURE:
        verdict = ("The bridge would not work: ", "bold red")
        return Text.assemble(verdict, f"{took} Exit code {int(report.exit_code)}.")
    if report.outcome is Outcome.WARNING:
        return Text.assemble(("The bridge would work, with care: ", "yellow"), took)
    return Text.assemble(("All is well: ", "bold green"), took)


def _line(text: str) -> str:
    """Make one line of a text, without what a terminal would obey."""
    return printable(" ".join(text.split()))
