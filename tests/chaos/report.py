"""A verdict for people, and as JSON with the bridge's log for comparing runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.chaos.course import Course
from tests.chaos.verdict import Verdict


def lines(verdict: Verdict) -> Iterator[str]:
    """Give the figures, a line each."""
    for name, value in verdict.figures.items():
        if isinstance(value, Counter):
            each = ", ".join(f"{count:,} {what}" for what, count in value.most_common())
            yield f"{name:<36}{value.total():>9,}  ({each})"
        else:
            yield f"{name:<36}{f'{value:>9,}' if isinstance(value, int) else value}"


def write(course: Course, verdict: Verdict, folder: Path) -> Path:
    """Write the report and the bridge's log beside it; give the report's path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{course.topic}-{course.options.seed}.json"
    content = {
        "options": asdict(course.options),
        "accounts": [asdict(member) for member in course.members],
        "findings": verdict.findings,
        "figures": verdict.figures,
        "repeats": verdict.repeats,
        "gaps": [
            # JSON has no infinity.
            asdict(gap) | {"since": None if gap.since < 0 else gap.since}
            for gap in verdict.gaps
        ],
        "faults": [vars(fault) for fault in course.faults],
        "calls": {
            name: [asdict(call) for call in account.truth.calls]
            for name, account in course.dryapi.accounts.items()
        },
        "samples": [asdict(sample) for sample in course.watch.samples],
    }
    report.write_text(json.dumps(content, indent=1, default=sorted))
    report.with_suffix(".log").write_text(course.bridge.all_output)
    return report
