"""How a proof looks without a terminal, and with more than a screen holds."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from bridge.consumer.verify import Finding, Kind, Report, Watch, show
from bridge.consumer.verify.report import LaneReport
from bridge.kafka.scan import Progress


LANE = LaneReport(
    outbox="abcdefgh-ijkl",
    partition=0,
    origin="socket",
    records=1_234,
    first_sequence=1,
    last_sequence=1_240,
    unread=0,
    trimmed=0,
    compacted=6,
    refused=0,
    resent=0,
)


def printed(report: Report) -> str:
    """What is written to a pipe."""
    out = io.StringIO()
    show(report, Console(file=out, width=160))
    return out.getvalue()


def report_of(*lanes: LaneReport, findings: list[Finding] | None = None) -> Report:
    """Make a report."""
    found = findings or []
    return Report(
        topic="jobs",
        isolation="read_committed",
        seconds=1.0,
        partitions=[],
        lanes=list(lanes),
        counts={one.kind.value: one.count for one in found},
        findings=found,
        notes=[],
    )


def test_only_columns_that_say_something_are_shown() -> None:
    """Nothing was trimmed or refused in this one; something was compacted."""
    text = printed(report_of(LANE))
    assert "compacted" in text
    assert "trimmed" not in text
    assert "abcdefgh " in text


def test_lanes_beyond_a_bound_are_counted() -> None:
    """A table of thousands would hide the verdict."""
    lanes = [msgspec.structs.replace(LANE, partition=number) for number in range(203)]
    text = printed(report_of(*lanes))
    assert text.count("abcdefgh") == 200
    assert "3 lanes more" in text


def test_a_hole_says_how_much_of_it_is_certain() -> None:
    """Some of the sequences may have been compacted away."""
    hole = Finding(Kind.HOLE, 2, 40, "box", 5, 9, count=3)
    text = printed(report_of(findings=[hole]))
    assert text.startswith(
        "jobs-2@40 hole: sequences 5-9, 3 of them of outbox box, nothing before it\n"
    )
    assert "Not clean: 3 hole" in text


def test_progress_is_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One now and then, none for a short scan."""
    lines: list[str] = []
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Watch("jobs", Console(file=io.StringIO()), lines.append) as watch:
        for number, at in enumerate((4.9, 5.1, 10, 10.2, 15), 1):
            now = 100 + at
            watch.update(Progress(1_000 * number, 5_000))
    assert [line.split(" offsets")[0] for line in lines] == [
        "jobs: 2,000 of 5,000",
        "jobs: 4,000 of 5,000",
    ]
    assert watch.last == Progress(5_000, 5_000)
