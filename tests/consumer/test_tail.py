"""What `bridge tail` knows of jobs, how it shows them, and when it draws or writes."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
import trio
from rich.console import Console
from rich.text import Text

from bridge.consumer.tail import Choice, Job, JobTable, follow_table, write_lines
from bridge.errors import KafkaError
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.records import START_MS, job_record, raw_record


if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_UUID = "1f0c2a3b-0d6c-4a57-9b1e-0d9e5f7a9d1e"


def of(*records: ConsumedRecord, max_jobs: int = 100) -> JobTable:
    """Make a table of these records."""
    table = JobTable(max_jobs)
    table.add(records, 0.0)
    return table


def only(table: JobTable) -> Job:
    """Return the one job of a table."""
    (job,) = table.newest(10)
    return job


def draw(table: JobTable, *, width: int = 80, title: str = "jobs") -> list[str]:
    """Draw a table on a terminal of that width and return its lines."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=24, color_system=None)
    now_ms = START_MS + 3_400
    console.print(*table.picture(title, Text(""), width, 24, now_ms), sep="\n")
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 24
    return lines


# -- What is known of jobs ------------------------------------------------------------


def test_the_latest_record_of_a_job_counts() -> None:
    """Status, progress and offset are the last record's, the age is the job's."""
    records = [
        job_record("a", "processing", offset=5),
        job_record("a", offset=6, at_ms=START_MS + 1_500, progress="45.50"),
        job_record("a", offset=7, at_ms=START_MS + 1_600, preview="QUJDRA=="),
    ]
    running = only(of(*records))
    assert (running.status, running.progress) == ("in_progress", 45.5)
    assert (running.partition, running.offset, running.preview_bytes) == (2, 7, 4)
    assert running.age_ms(START_MS + 4_000) == 4_000
    end = job_record("a", "done", at_ms=START_MS + 2_000, result_url="https://r/a")
    table = of(*records, end)
    done = only(table)
    # What a terminal record leaves out was in an earlier one; the age stops there.
    assert (done.is_over, done.age_ms(START_MS + 60_000)) == (True, 2_000)
    assert (done.progress, done.preview_bytes) == (45.5, 4)
    assert done.result_url == "https://r/a"
    assert table.by_status == {"done": 1}


def test_progress_is_a_percentage_or_unknown() -> None:
    """Numbers and decimal strings are read, bounds are kept, the rest is unknown."""
    table: dict[object, float | None] = {
        "45.50": 45.5,
        12: 12.0,
        "140": 100.0,
        "-3": 0.0,
        **dict.fromkeys(("NaN", "1e999", "half", None)),
    }
    found = {said: only(of(job_record("a", progress=said))).progress for said in table}
    assert found == table


def test_a_record_that_isnt_a_job_status_is_shown_as_such() -> None:
    """Whatever a topic holds, the table goes on and says that it can't be read."""
    values = [
        *(b"not json", b"[1, 2]", b'{"status": 7}', b'{"status": "\xff"}'),
        *(b"[" * 5_000, b"", None),
    ]
    for value in values:
        table = of(raw_record(value), job_record("b", "done"))
        assert table.by_status == {"unreadable": 1, "done": 1}, value


def test_running_jobs_are_preferred_and_rows_keep_their_order() -> None:
    """Where a few fit, running ones are among them, newest first."""
    table = of(*(job_record(f"job-{number}", "processing") for number in range(6)))
    table.add([job_record(f"job-{number}", "done") for number in (2, 4, 5)], 0.0)
    order = ["job-5", "job-3", "job-1", "job-0"]
    assert [job.request_id for job in table.newest(4)] == order
    table.add([job_record("job-1", "in_progress")], 0.0)
    assert [job.request_id for job in table.newest(4)] == order
    assert table.newest(0) == []


def test_the_number_of_jobs_is_bounded() -> None:
    """The jobs that were over first go first; the running ones stay."""
    done = (job_record(f"job-{number}", "done") for number in range(10))
    table = of(job_record("running", "processing"), *done, max_jobs=3)
    assert {job.request_id for job in table.newest(9)} == {"running", "job-8", "job-9"}
    assert table.by_status == {"done": 2, "processing": 1}


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """Events count for five seconds; a young table is not measured over five."""
    table = JobTable()
    table.add([], 100.0)
    assert table.rate.per_second(100.0) == 0.0
    table.add([job_record("a", "processing")] * 20, 100.5)
    assert table.rate.per_second(101.0) == pytest.approx(20.0)
    table.add([job_record("a", "processing")] * 30, 104.0)
    assert table.rate.per_second(105.0) == pytest.approx(10.0)
    assert table.rate.per_second(108.0) == pytest.approx(6.0)
    assert table.rate.per_second(110.0) == 0.0


# -- How they look --------------------------------------------------------------------


def test_a_row_has_what_a_person_asks_for() -> None:
    """Short id, status, bar, percentage, preview, age and offset fit 80 columns."""
    record = job_record(_UUID, offset=123, progress="45.50", preview="A" * 60_000)
    row = draw(of(record))[2]
    words = [word for word in row.split() if "━" not in word]
    assert words == [
        *("1f0c2a3b…9d1e", "in_progress", "46%", "45.0", "kB", "3.4", "s"),
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
    """A wide table shows the result's address and not what opens it."""
    text = "\n".join(draw(of(job_record("a", "done", result_url=url)), width=160))
    assert "results.example/a.png" in text
    assert "SECRET" not in text


def test_nothing_of_a_record_commands_the_terminal() -> None:
    """Escapes, control characters, markup and bidi marks come out as harmless text."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e[bold red]x"
    result = f"https://x/{evil}"
    table = of(job_record(evil, evil, error_message=evil, result_url=result))
    for width in (80, 160):
        for line in draw(table, width=width, title=evil):
            assert line.isprintable()


# -- When something is drawn or written -----------------------------------------------


class ScriptedSource:
    """Returns runs at stated times, then waits; trio's clock is the test's."""

    lag = 0

    def __init__(
        self,
        *runs: tuple[float, list[ConsumedRecord]],
        failure: KafkaError | None = None,
    ) -> None:
        self._runs = list(runs)
        self._failure = failure
        self.silent_since_seconds: float | None = None

    async def receive_run(self) -> list[ConsumedRecord]:
        """Wait for the next run's time."""
        if not self._runs:
            if self._failure is not None:
                raise self._failure
            await trio.sleep_forever()
        await trio.sleep_until(self._runs[0][0])
        await trio.lowlevel.checkpoint()
        return self._runs.pop(0)[1]


def jobs(*names: str) -> list[ConsumedRecord]:
    """Make one record for each of these jobs."""
    return [job_record(name, "processing") for name in names]


def written(console: Console) -> str:
    """Return all that a terminal got."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def drawn_until(seconds: float, source: ScriptedSource, console: Console) -> str:
    """Follow a source for some time and return all that the terminal got."""
    with trio.move_on_after(seconds):
        await follow_table(source, "jobs", console)
    return written(console)


@pytest.fixture
def terminal() -> Console:
    """Return a terminal that remembers."""
    return Console(
        file=io.StringIO(), width=80, height=20, force_terminal=True, color_system=None
    )


async def test_a_stream_that_takes_parts_gets_everything_chosen(
    autojump_clock: object,
) -> None:
    """As a raw stream to a pipe does: each write takes a few bytes only."""

    class Sparing(io.BytesIO):
        def write(self, data: ReadableBuffer, /) -> int:
            return super().write(memoryview(data)[:7])

    out = Sparing()
    source = ScriptedSource((1, jobs("b", "a", "b")), (2, jobs("a", "c")))
    with trio.fail_after(5):
        await write_lines(source, out, Choice(key=b"a", partition=2, left=2))
    lines = out.getvalue().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "a"]


async def test_the_table_is_drawn_at_most_eight_times_a_second(
    terminal: Console, autojump_clock: object
) -> None:
    """Many runs make few pictures, and the last state is printed at the end."""
    runs = [(number / 100, jobs(f"job-{number}")) for number in range(200)]
    text = await drawn_until(2.0, ScriptedSource(*runs), terminal)
    on_screen, _, left = text.rpartition("\x1b[?1049l")
    assert 10 <= on_screen.count("events/s") <= 17
    assert "job-199" in left
    assert left.count("events/s") == 1


async def test_the_terminal_is_put_back_whatever_ends_the_table(
    terminal: Console, autojump_clock: object
) -> None:
    """An error of Kafka leaves the alternate screen, shows the cursor and comes out."""
    source = ScriptedSource((1, jobs("a")), failure=KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await follow_table(source, "jobs", terminal)
    text = written(terminal)
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


async def test_a_silent_broker_shows(terminal: Console, autojump_clock: object) -> None:
    """The table says that Kafka doesn't answer, without any record coming."""
    source = ScriptedSource()
    source.silent_since_seconds = 0.0
    assert "Kafka has not answered" in await drawn_until(1.0, source, terminal)
