"""
What `bridge tail` shows: a live table of jobs on a terminal, else lines of JSON.

The table is the latest state of each job; only so many jobs are kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
import trio
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bridge.consumer.job_record import MAX_TEXT, preview_bytes, read_job_record
from bridge.consumer.rate import Rate
from bridge.consumer.render import cell, escaped, json_line
from bridge.events.job_status import TERMINAL_STATUSES
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Choice", "Job", "JobTable", "Source", "follow_table", "write_lines"]

# A terminal shows some dozens; the rest keeps the counts and survives a resize. At
# about 1 kB a job this is 2 MB.
_MAX_JOBS = 2_000

# Eight pictures a second: fluent for people, and a tenth of what a bar in continuous
# motion would cost.
_FRAME_SECONDS = 1 / 8

_STATUS_STYLES = {
    "processing": "cyan",
    "in_progress": "yellow",
    "done": "green",
    "error": "bold red",
}
# A UUID's first group and its last four: 13 characters that hardly collide among the
# jobs of a screen.
_ID_HEAD, _ID_TAIL = 8, 4
_ID_WIDTH = _ID_HEAD + 1 + _ID_TAIL

# From which width on a column is shown; the others fit 50 columns.
_OFFSET_FROM_COLUMNS = 72
_PREVIEW_FROM_COLUMNS = 58
_RESULT_FROM_COLUMNS = 110
# Summary, column names, the line below the table, and the cursor's.
_OTHER_LINES = 4


class Source(Protocol):
    """What is followed: a `TopicReader`, as far as this module needs one."""

    async def receive_run(self) -> list[ConsumedRecord]:
        """Wait for the next records; a cancelled call takes none."""
        ...

    @property
    def lag(self) -> int:
        """How many offsets are left before the ends."""
        ...

    @property
    def silent_since_seconds(self) -> float | None:
        """Since when no broker answers (`time.monotonic`); None while one does."""
        ...


class Choice(msgspec.Struct):
    """Which records are shown."""

    key: bytes | None = None
    partition: int | None = None
    left: int | None = None  # how many more; None for no limit

    def take(self, run: Sequence[ConsumedRecord]) -> list[ConsumedRecord]:
        """Return those of the next records that are shown, and count them."""
        wanted = [
            record
            for record in run
            if self.key in {None, record.key}
            and self.partition in {None, record.partition}
        ][: self.left]
        if self.left is not None:
            self.left -= len(wanted)
        return wanted


async def write_lines(
    reader: Source, out: BinaryIO, choice: Choice | None = None
) -> None:
    """
    Write each record as a line of JSON until cancelled; flushed after each run.

    A pipe that is full holds the reading back.

    Raises:
        BrokenPipeError: The lines' reader has ended.
        KafkaError: Reading failed.
    """
    choice = choice or Choice()
    while choice.left != 0:
        run = choice.take(await reader.receive_run())
        rest = memoryview(b"".join(map(json_line, run)))
        while rest:
            # An unbuffered stream (PYTHONUNBUFFERED) may accept a part.
            rest = rest[out.write(rest) :]
        out.flush()


async def follow_table(  # noqa: PLR0913 - each is one independent choice of the caller
    reader: Source,
    title: str,
    console: Console,
    choice: Choice | None = None,
    *,
    head: Callable[[], Sequence[RenderableType]] = lambda: (),
    observe: Callable[[Sequence[ConsumedRecord]], None] = lambda _records: None,
) -> None:
    """
    Show the jobs live until cancelled; the last picture stays on the terminal.

    It is drawn on the alternate screen, so that nothing is left of a picture when the
    window changes its size; at the end the last one is printed. `head` gives the lines
    above the table, and `observe` receives every run of records.

    Raises:
        KafkaError: Reading failed.
    """
    choice = choice or Choice()
    table = JobTable()

    def picture() -> RenderableType:
        now, silent_since, above = time.monotonic(), reader.silent_since_seconds, head()
        traffic = f"  {table.rate.per_second(now):,.1f} events/s  lag {reader.lag:,}"
        state = Text(traffic)
        if silent_since is not None:
            seconds = now - silent_since
            state = Text(f"  Kafka has not answered for {seconds:.0f} s", "bold red")
        width, lines = console.size
        now_ms = int(time.time() * 1000)
        return Group(
            *above, *table.picture(title, state, width, lines - len(above), now_ms)
        )

    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            next_frame = trio.current_time()
            while choice.left != 0:
                # A call that is cancelled at the frame's time loses no record.
                with trio.move_on_at(next_frame):
                    run = choice.take(await reader.receive_run())
                    observe(run)
                    table.add(run, time.monotonic())
                if trio.current_time() >= next_frame:
                    live.update(picture(), refresh=True)
                    next_frame = trio.current_time() + _FRAME_SECONDS
    finally:
        console.print(picture())


class Job(msgspec.Struct):
    """A job, as its latest record shows it; see `JobRecord`."""

    request_id: str
    status: str
    progress: float | None  # that of an earlier record where the latest has none
    preview_bytes: int  # of the latest preview; 0 while there was none
    result_url: str | None
    error: str | None
    first_ms: int  # the first record's timestamp
    last_ms: int  # the latest record's timestamp, partition and offset
    partition: int
    offset: int

    @property
    def is_over(self) -> bool:
        """Whether the status is a job's last."""
        return self.status in TERMINAL_STATUSES

    def age_ms(self, now_ms: int) -> int:
        """How long it has run; of a job that is over, how long it took."""
        return max(0, (self.last_ms if self.is_over else now_ms) - self.first_ms)


class JobTable:
    """
    The jobs of one or several topics, a bounded number of them.

    Args:
        max_jobs: How many are kept. The first to go are those that were over first,
            then those that began first.

    Attributes:
        by_status: How many of the kept jobs have which status.
        rate: How many events a second arrive.
    """

    def __init__(self, max_jobs: int = _MAX_JOBS) -> None:
        self._max_jobs = max_jobs
        # In the order of the jobs' first records, and of their last ones.
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._over: OrderedDict[str, None] = OrderedDict()
        self.rate = Rate()
        self.by_status: dict[str, int] = {}

    def add(self, records: Sequence[ConsumedRecord], now_seconds: float) -> None:
        """Accept records in the order in which they were read, and when that was."""
        for record in records:
            self._add_one(record)
        self.rate.add(len(records), now_seconds)

    def _add_one(self, record: ConsumedRecord) -> None:
        job = _read(record)
        known = self._jobs.get(job.request_id)
        if known is not None:
            self._count(known.status, -1)
            job.first_ms = min(known.first_ms, job.first_ms)
            # What a record leaves out was in an earlier one.
            job.preview_bytes = job.preview_bytes or known.preview_bytes
            if job.progress is None:
                job.progress = known.progress
        self._jobs[job.request_id] = job
        self._count(job.status, 1)
        if job.is_over:
            self._over[job.request_id] = None
        else:
            self._over.pop(job.request_id, None)
        while len(self._jobs) > self._max_jobs:
            request_id = next(iter(self._over), None) or next(iter(self._jobs))
            self._over.pop(request_id, None)
            self._count(self._jobs.pop(request_id).status, -1)

    def _count(self, status: str, change: int) -> None:
        count = self.by_status.pop(status, 0) + change
        if count:
            self.by_status[status] = count

    def newest(self, count: int) -> list[Job]:
        """
        Choose so many jobs to show, newest first.

        Running jobs come before those that are over when not all fit. The order is that
        of the jobs' first records, so that a row moves only when a job comes or goes.
        """
        newest = list(reversed(self._jobs.values()))
        running = (job.request_id for job in newest if not job.is_over)
        over = (job.request_id for job in newest if job.is_over)
        chosen = set(islice(running, count))
        chosen.update(islice(over, count - len(chosen)))
        return [job for job in newest if job.request_id in chosen]

    # -- On a terminal ----------------------------------------------------------------

    def picture(
        self, title: str, state: Text, width: int, lines: int, now_ms: int
    ) -> Iterable[RenderableType]:
        """Draw what fits a terminal: what is read, how that goes, and the jobs."""
        summary = Text(no_wrap=True, overflow="ellipsis")
        summary.append(escaped(title), style="bold").append_text(state)
        for status, count in sorted(self.by_status.items(), key=_in_flow_order):
            summary.append(f"  {count:,} ")
            summary.append(escaped(status), style=_style(status))
        yield summary
        jobs = self.newest(max(1, lines - _OTHER_LINES))
        if not jobs:
            yield Text(f"Waiting for events on {escaped(title)} ...", style="dim")
            return
        yield _drawn(jobs, width, now_ms)
        if hidden := len(self._jobs) - len(jobs):
            yield Text(f"and {hidden:,} more jobs", style="dim", no_wrap=True)


def _read(record: ConsumedRecord) -> Job:
    """Make a job of one record, whatever the record is."""
    read = read_job_record(record)
    return Job(
        request_id=read.request_id,
        status=read.status,
        progress=read.progress,
        preview_bytes=preview_bytes(read.preview),
        result_url=read.result_url and read.result_url[:MAX_TEXT],
        error=read.error,
        first_ms=record.timestamp_ms,
        last_ms=record.timestamp_ms,
        partition=record.partition,
        offset=record.offset,
    )


def _drawn(jobs: Iterable[Job], width: int, now_ms: int) -> Table:
    """Make the table with the columns that fit."""
    has_result = width >= _RESULT_FROM_COLUMNS
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")

    def right(name: str, width: int) -> None:
        table.add_column(name, no_wrap=True, width=width, justify="right")

    table.add_column("request", no_wrap=True, width=_ID_WIDTH)
    table.add_column("status", no_wrap=True, width=len("in_progress"))
    table.add_column("progress", no_wrap=True, ratio=2, min_width=8)
    right("", len("100%"))
    if width >= _PREVIEW_FROM_COLUMNS:
        right("preview", 7)
    right("age", 6)
    if width >= _OFFSET_FROM_COLUMNS:
        right("part/offset", 11)
    if has_result:
        table.add_column("result", no_wrap=True, ratio=3, overflow="ellipsis")
    for job in jobs:
        error = cell(job.error or "", "red")
        error.overflow = "ellipsis"
        cells: list[Text | ProgressBar] = [
            Text(_short_id(job.request_id)),
            cell(job.status, _style(job.status)),
            error if job.error and not has_result else _bar(job),
            Text("" if job.progress is None else f"{job.progress:.0f}%"),
        ]
        if width >= _PREVIEW_FROM_COLUMNS:
            cells.append(Text(_size(job.preview_bytes)))
        cells.append(Text(_age(job.age_ms(now_ms))))
        if width >= _OFFSET_FROM_COLUMNS:
            cells.append(Text(f"{job.partition}/{job.offset}"))
        if has_result:
            cells.append(error if job.error else Text(_unsigned(job.result_url)))
        table.add_row(*cells, style="dim" if job.status == "done" else None)
    return table


def _style(status: str) -> str:
    return _STATUS_STYLES.get(status, "magenta")


def _in_flow_order(item: tuple[str, int]) -> tuple[int, str]:
    """Sort statuses as a job goes through them, unknown ones last."""
    status, known = item[0], list(_STATUS_STYLES)
    return (known.index(status) if status in known else len(known), status)


def _bar(job: Job) -> ProgressBar:
    style = _style(job.status)
    completed = 100.0 if job.status == "done" else job.progress or 0.0
    return ProgressBar(
        total=100.0, completed=completed, complete_style=style, finished_style=style
    )


def _short_id(request_id: str) -> str:
    """Shorten an id to its ends, which is where UUIDs of one minute differ."""
    text = escaped(request_id)
    if len(text) <= _ID_WIDTH:
        return text
    return f"{text[:_ID_HEAD]}…{text[-_ID_TAIL:]}"


def _unsigned(url: str | None) -> str:
    """Show the address of a result without the signature that opens it."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    # A password may precede the host as well.
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return escaped(shown + ("?…" if parts.query else ""))


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B" if size_bytes else ""
    return decimal(size_bytes)


def _age(age_ms: int) -> str:
    seconds = age_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 100 else f"{hours // 24} d"
