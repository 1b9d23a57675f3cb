"""
How a report looks: a line for each step, or JSON.

Owns words, columns and colours, and that nothing of what a server said reaches the
terminal as a command to it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from bridge.doctor.report import Line, Outcome, Report


__all__ = ["as_json", "show"]

# What a line begins with on a terminal, and its colour.
_MARKS: Final = {
    Outcome.OK: ("✓", "green"),
    Outcome.WARNING: ("!", "yellow"),
    Outcome.FAILURE: ("✗", "bold red"),
    Outcome.SKIPPED: ("-", "dim"),
}

_QUIET: Final = frozenset({Outcome.OK, Outcome.SKIPPED})
_COUNTED: Final = frozenset({Outcome.WARNING, Outcome.FAILURE})

# A step's name and a remedy's arrow begin in the same column on each line.
_WORD_WIDTH: Final = max(len(outcome) for outcome in Outcome)


def as_json(report: Report) -> bytes:
    """Write a report as one JSON object."""
    encoded: dict[str, object] = {
        "outcome": report.outcome,
        "exit_code": report.exit_code,
        "seconds": round(report.seconds, 3),
        "checks": [msgspec.to_builtins(line) for line in report.lines],
    }
    return msgspec.json.format(msgspec.json.encode(encoded))


def show(report: Report, console: Console) -> None:
    """
    Print the lines, each failure and warning with its remedy, and what it came to.

    Args:
        report: What was found.
        console: Where to; a terminal gets marks and colours, all else words.
    """
    has_marks = console.is_terminal and "utf" in console.encoding
    width = max((len(line.step) for line in report.lines), default=0)
    for line in report.lines:
        console.print(_line(line, width, has_marks=has_marks), soft_wrap=True)
        if line.remedy:
            left = 1 if has_marks else _WORD_WIDTH
            console.print(
                Text(f"{'':{left}}   -> {_plain(line.remedy)}"), soft_wrap=True
            )
    console.print(_verdict(report), soft_wrap=True)


def _line(line: Line, width: int, *, has_marks: bool) -> Text:
    mark, style = _MARKS[line.outcome]
    word = mark if has_marks else f"{line.outcome:{_WORD_WIDTH}}"
    rest = ": ".join(_plain(part) for part in (line.subject, line.detail) if part)
    is_ok, is_quiet = line.outcome is Outcome.OK, line.outcome in _QUIET
    return Text.assemble(
        (word, style),
        (f" {line.step:{width}} ", "" if is_ok else style),
        # What is well is there to be passed over.
        (f" {rest}", "dim" if is_quiet else ""),
    )


def _verdict(report: Report) -> Text:
    counts = [
        f"{count} {outcome}{'s' if outcome in _COUNTED and count > 1 else ''}"
        for outcome in Outcome
        if (count := report.count(outcome))
    ]
    took = f"{', '.join(counts)}, in {report.seconds:.1f} s."
    if report.outcome is Outcome.FAILURE:
        code = int(report.exit_code)
        told = ("The bridge would not work: ", "bold red")
        return Text.assemble(told, f"{took} Exit code {code}.")
    if report.outcome is Outcome.WARNING:
        return Text.assemble(("The bridge would work, with care: ", "yellow"), took)
    return Text.assemble(("All is well: ", "bold green"), took)


def _plain(text: str) -> str:
    """Make one line of a text, without whatever a terminal takes for a command."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
