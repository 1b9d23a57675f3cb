"""
How jobs look on a terminal: a table that fits it.

Owns colours, columns and what is left out on a narrow terminal, and that
nothing from a record reaches the terminal as a command to it. What is shown is
`tail`'s, when it is drawn is `live`'s.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bridge.consumer.tail import Job, JobTable


__all__ = ["JobView", "Situation", "summary_line"]

_STATUS_STYLES = {
    "processing": "cyan",
    "in_progress": "yellow",
    "done": "green",
    "error": "bold red",
}
# A UUID's first group and its last four: 13 characters that hardly collide
# among the jobs of a screen.
_ID_HEAD, _ID_TAIL = 8, 4
_ID_WIDTH = _ID_HEAD + 1 + _ID_TAIL

# From which width on a column is shown; the others fit 50 columns.
_PLACE_FROM_COLUMNS = 72
_PREVIEW_FROM_COLUMNS = 58
_RESULT_FROM_COLUMNS = 110
_STATUS_WIDTH = 11  # in_progress
_PERCENT_WIDTH = 4  # 100%
# Header, its rule, the column names and the line below the table.
_OTHER_LINES = 4


class Situation:
    """
    What is known beside the jobs when the view is drawn.

    Args:
        now_ms: The time, milliseconds since the epoch, for ages.
        rate: Events a second.
        lag: Offsets between the reader and the topics' ends.
        silent_seconds: How long no broker has answered; None while one does.
    """

    def __init__(
        self, *, now_ms: int, rate: float, lag: int, silent_seconds: float | None
    ) -> None:
        self.now_ms = now_ms
        self.rate = rate
        self.lag = lag
        self.silent_seconds = silent_seconds


class JobView:
    """
    A picture of a job table, drawn for the terminal's size as it is.

    Args:
        table: The jobs.
        title: What is read, the topics' names.
        situation: What is known beside them.
        reserved_lines: Lines that somebody else uses on the same screen.
    """

    def __init__(
        self,
        table: JobTable,
        title: str,
        situation: Situation,
        *,
        reserved_lines: int = 0,
    ) -> None:
        self._table = table
        self._title = title
        self._situation = situation
        self._reserved_lines = reserved_lines

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        width = options.max_width
        lines = (options.height or console.height) - self._reserved_lines
        jobs = self._table.newest(max(1, lines - _OTHER_LINES))
        yield summary_line(self._table, self._title, self._situation)
        if not jobs:
            yield Text(f"Waiting for events on {_clean(self._title)} ...", style="dim")
            return
        yield self._rows(jobs, width)
        hidden = len(self._table) - len(jobs)
        if hidden > 0:
            yield Text(f"and {hidden:,} more jobs", style="dim", no_wrap=True)

    def _rows(self, jobs: list[Job], width: int) -> Table:
        """Make the table with the columns that fit."""
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
        table.add_column("request", no_wrap=True, width=_ID_WIDTH)
        table.add_column("status", no_wrap=True, width=_STATUS_WIDTH)
        table.add_column("progress", no_wrap=True, ratio=2, min_width=8)
        table.add_column("", no_wrap=True, width=_PERCENT_WIDTH, justify="right")
        if width >= _PREVIEW_FROM_COLUMNS:
            table.add_column("preview", no_wrap=True, width=7, justify="right")
        table.add_column("age", no_wrap=True, width=6, justify="right")
        if width >= _PLACE_FROM_COLUMNS:
            table.add_column("part/offset", no_wrap=True, width=11, justify="right")
        if width >= _RESULT_FROM_COLUMNS:
            table.add_column("result", no_wrap=True, ratio=3, overflow="ellipsis")
        for job in jobs:
            cells = self._cells(job, width)
            table.add_row(*cells, style="dim" if job.status == "done" else None)
        return table

    def _cells(self, job: Job, width: int) -> list[Text | ProgressBar]:
        """Make one row, column by column."""
        style = _STATUS_STYLES.get(job.status, "magenta")
        has_result = width >= _RESULT_FROM_COLUMNS
        cells: list[Text | ProgressBar] = [
            Text(_short_id(job.request_id)),
            Text(_clean(job.status), style=style),
        ]
        if job.error and not has_result:
            cells.append(Text(_clean(job.error), style="red", overflow="ellipsis"))
        else:
            cells.append(_bar(job, style))
        cells.append(Text("" if job.progress is None else f"{job.progress:.0f}%"))
        if width >= _PREVIEW_FROM_COLUMNS:
            cells.append(Text(_size(job.preview_bytes)))
        cells.append(Text(_age(job.age_ms(self._situation.now_ms))))
        if width >= _PLACE_FROM_COLUMNS:
            cells.append(Text(f"{job.partition}/{job.offset}"))
        if has_result:
            cells.append(
                Text(_clean(job.error), style="red")
                if job.error
                else Text(_unsigned(job.result_url))
            )
        return cells


def summary_line(table: JobTable, title: str, situation: Situation) -> Text:
    """Say in one line what is read, how fast, how far behind, and how jobs stand."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(_clean(title), style="bold")
    if situation.silent_seconds is None:
        line.append(f"  {situation.rate:,.1f} events/s  lag {situation.lag:,}")
    else:
        line.append(
            f"  Kafka has not answered for {situation.silent_seconds:.0f} s",
            style="bold red",
        )
    for status, count in sorted(table.by_status.items(), key=_in_flow_order):
        line.append(f"  {count:,} ")
        line.append(_clean(status), style=_STATUS_STYLES.get(status, "magenta"))
    return line


def _in_flow_order(item: tuple[str, int]) -> tuple[int, str]:
    """Sort statuses as a job goes through them, unknown ones last."""
    status = item[0]
    known = list(_STATUS_STYLES)
    return (known.index(status) if status in known else len(known), status)


def _bar(job: Job, style: str) -> ProgressBar:
    completed = 100.0 if job.status == "done" else job.progress or 0.0
    return ProgressBar(
        total=100.0, completed=completed, complete_style=style, finished_style=style
    )


def _short_id(request_id: str) -> str:
    """Shorten an id to its ends, which is where UUIDs of one minute differ."""
    text = _clean(request_id)
    if len(text) <= _ID_WIDTH:
        return text
    return f"{text[:_ID_HEAD]}…{text[-_ID_TAIL:]}"


def _clean(text: str) -> str:
    """Make text that no terminal takes for a command (escape, bidi, control)."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _unsigned(url: str | None) -> str:
    """Show where a result lies without the signature that opens it."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    # A password may stand before the host as well.
    host = parts.netloc.rpartition("@")[2]
    shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return _clean(shown + ("?…" if parts.query else ""))


def _size(size_bytes: int) -> str:
    if size_bytes == 0:
        return ""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"


def _age(age_ms: int) -> str:
    seconds = age_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 100 else f"{hours // 24} d"
