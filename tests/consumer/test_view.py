"""What a terminal shows of jobs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bridge.consumer.tail import JobTable
from bridge.consumer.view import JobView, Situation
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.records import START_MS, job_record


_UUID = "1f0c2a3b-0d6c-4a57-9b1e-0d9e5f7a9d1e"


def draw(table: JobTable, *, width: int = 80, title: str = "jobs") -> list[str]:
    """Draw a table on a terminal of that width and give its lines."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=24, color_system=None)
    situation = Situation(
        now_ms=START_MS + 3_400, rate=41.97, lag=0, silent_seconds=None
    )
    console.print(JobView(table, title, situation))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 24
    return lines


def of(*records: ConsumedRecord) -> JobTable:
    """A table of these records."""
    table = JobTable()
    table.add(records, 0.0)
    return table


def running() -> JobTable:
    """A table of one running job."""
    return of(
        job_record(
            _UUID,
            "in_progress",
            offset=123,
            progress="45.50",
            preview="A" * 60_000,
        )
    )


def test_a_row_has_what_a_person_asks_for() -> None:
    """Short id, status, bar, percentage, preview, age and place fit 80 columns."""
    row = draw(running())[2]
    assert row.split() == [
        "1f0c2a3b…9d1e",
        "in_progress",
        *[part for part in row.split() if "━" in part],
        "46%",
        "45.0",
        "kB",
        "3.4",
        "s",
        "2/123",
    ]
    assert "━" in row


@pytest.mark.parametrize(
    "url",
    [
        "https://results.example/a.png?X-Sig=SECRET&Expires=1",
        "https://user:SECRET@results.example/a.png",
        "https://results.example/a.png#SECRET",
        "https://results.example/a.png;x?y=SECRET",
    ],
)
def test_the_signature_of_a_result_is_hidden(url: str) -> None:
    """A wide table shows where the result lies and not what opens it."""
    text = "\n".join(draw(of(job_record("a", "done", result_url=url)), width=160))
    assert "results.example/a.png" in text
    assert "SECRET" not in text


def test_nothing_of_a_record_commands_the_terminal() -> None:
    """Escapes, control characters, markup and bidi marks come out as harmless text."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e[bold red]x"
    table = of(
        job_record(evil, evil, error_message=evil, result_url=f"https://x/{evil}")
    )
    for width in (80, 160):
        for line in draw(table, width=width, title=evil):
            assert line.isprintable()
