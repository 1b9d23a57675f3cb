"""Rows in a log record: a table for people, plain values for machines."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from bridge.operations import logs


pytestmark = pytest.mark.usefixtures("logging_as_before")

ROWS = [
    {"topic": "jobs", "found": 1, "verdict": "fine", "remedy": ""},
    {"topic": "jobs.gaps", "found": "x" * 50, "verdict": "missing", "remedy": "Do it."},
]


def logged(format: str, rows: object) -> str:  # noqa: A002 - the setting's name
    """Log rows and give what comes out."""
    out = io.StringIO()
    logs.configure(format, stream=out)  # type: ignore[arg-type] # both are tested
    structlog.get_logger("bridge.kafka").info("seen", count=2, findings=rows)
    return out.getvalue()


def test_people_get_a_table_below_the_line() -> None:
    """Columns stand under each other; sentences stand below, named by their row."""
    first, *table = logged("console", ROWS).splitlines()
    assert first.rstrip().endswith("[bridge.kafka] count=2")
    assert table == [
        f"  {'topic':<9}  {'found':<40}  verdict",
        f"  {'jobs':<9}  {'1':<40}  fine",
        f"  {'jobs.gaps':<9}  {'x' * 50}  missing",
        f"  jobs.gaps {'x' * 50}: Do it.",
    ]


def test_machines_get_one_line() -> None:
    """JSON has the rows as a list of objects."""
    (line,) = logged("json", ROWS).splitlines()
    assert json.loads(line)["findings"] == ROWS
