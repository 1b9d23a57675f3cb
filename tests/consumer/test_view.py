"""What a terminal shows of jobs."""

from __future__ import annotations

import base64
import io

import pytest
from rich.console import Console

from bridge.consumer.tail import JobTable
from bridge.consumer.view import JobView, Situation
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.records import START_MS, job_record


_UUID = "1f0c2a3b-0d6c-4a57-9b1e-0d9e5f7a9d1e"


def draw(
    table: JobTable,
    *,
    width: int = 80,
    height: int = 24,
    lag: int = 0,
    silent_seconds: float | None = None,
    reserved_lines: int = 0,
    title: str = "jobs",
) -> list[str]:
    """Draw a table on a terminal of that size and give its lines."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None)
    situation = Situation(
        now_ms=START_MS + 3_400, rate=41.97, lag=lag, silent_seconds=silent_seconds
    )
    console.print(JobView(table, title, situation, reserved_lines=reserved_lines))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= height - reserved_lines
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


def test_the_first_line_says_how_things_stand() -> None:
    """Topic, rate, lag and the number of jobs in each status."""
    table = of(
        job_record("a", "done"),
        job_record("b", "error"),
        job_record("c", "processing"),
        job_record("d", "done"),
    )
    assert draw(table, lag=1234)[0].rstrip() == (
        "jobs  42.0 events/s  lag 1,234  1 processing  2 done  1 error"
    )


def test_a_silent_kafka_is_said() -> None:
    """While no broker answers the line says for how long instead of a rate."""
    first = draw(running(), silent_seconds=12.3)[0]
    assert "Kafka has not answered for 12 s" in first
    assert "events/s" not in first


def test_an_empty_topic_says_what_is_waited_for() -> None:
    """Before the first event it says that it waits."""
    assert draw(JobTable())[1].strip() == "Waiting for events on jobs ..."


@pytest.mark.parametrize(
    ("width", "present", "absent"),
    [
        (120, ["result", "part/offset", "preview"], []),
        (80, ["part/offset", "preview"], ["result"]),
        (66, ["preview"], ["part/offset", "result"]),
        (50, ["status", "age"], ["preview", "part/offset"]),
        (30, ["request"], []),
    ],
)
def test_columns_leave_as_the_terminal_narrows(
    width: int, present: list[str], absent: list[str]
) -> None:
    """No line is wider than the terminal; what matters less goes first."""
    names = draw(running(), width=width)[1]
    assert all(name in names for name in present)
    assert not any(name in names for name in absent)


@pytest.mark.parametrize("height", [5, 10, 24])
def test_the_table_fits_the_height(height: int) -> None:
    """However many jobs there are, the picture is no higher than the terminal."""
    table = of(*(job_record(f"job-{number}", "processing") for number in range(50)))
    lines = draw(table, height=height)
    rows = [line for line in lines if line.startswith("job-")]
    assert len(rows) == max(1, height - 4)
    assert lines[-1].strip() == f"and {50 - len(rows)} more jobs"


def test_lines_of_others_are_left_free() -> None:
    """Reserved lines are not used."""
    table = of(*(job_record(f"job-{number}", "processing") for number in range(50)))
    assert len(draw(table, height=20, reserved_lines=6)) <= 14


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


def test_a_url_that_is_none_breaks_nothing() -> None:
    """A result that no URL parser takes is said to be none."""
    text = draw(of(job_record("a", "done", result_url="https://[x")), width=160)[2]
    assert "(not a URL)" in text


@pytest.mark.parametrize("width", [80, 160])
def test_an_error_says_why(width: int) -> None:
    """A failed job shows its reason, narrow terminals in place of the bar."""
    record = job_record("a", "error", error_code="OOM", error_message="too large")
    assert "OOM: " in draw(of(record), width=width)[2]


def test_nothing_of_a_record_commands_the_terminal() -> None:
    """Escapes, control characters, markup and bidi marks come out as harmless text."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e[bold red]x"
    table = of(
        job_record(evil, evil, error_message=evil, result_url=f"https://x/{evil}")
    )
    for width in (80, 160):
        for line in draw(table, width=width, title=evil):
            assert line.isprintable()


def test_times_and_sizes_are_short() -> None:
    """Old jobs and large previews keep their columns."""
    table = JobTable()
    for name, after_ms, size in (
        ("a", -59_000, 400),
        ("b", -5_000_000, 40_000),
        ("c", -90_000_000, 4_000_000),
        ("d", -900_000_000, 0),
    ):
        preview = base64.b64encode(bytes(size)).decode()
        record = job_record(name, "in_progress", after_ms=after_ms, preview=preview)
        table.add([record], 0.0)
    rows = [line.split() for line in draw(table)[2:]]
    assert [" ".join(row[2:-1]) for row in rows] == [
        "10 d",
        "4.0 MB 25 h",
        "40.0 kB 83 min",
        "400 B 1 min",
    ]
