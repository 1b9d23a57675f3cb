"""
What readers print: tables, lines, JSON and progress.

Nothing from a record reaches the terminal as a command: what isn't printable is shown
as an escape.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from bridge.consumer.job_record import unframed
from bridge.kafka.reader import ConsumedRecord
from bridge.kafka.scan import Progress
from bridge.text import printable, printable_json


__all__ = [
    "Watch",
    "cell",
    "counted",
    "escaped",
    "json_line",
    "json_object",
    "print_line",
    "print_table",
    "rfc3339",
    "utc",
]

# A longer key or message is cut: a hostile one must not push the rest off the screen.
_SHOWN_CHARACTERS = 200
# Without a terminal, progress is a line so often.
_LINE_SECONDS = 5.0

_encode = msgspec.json.Encoder().encode


def escaped(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """Escape what a terminal would obey; a text above the limit is cut."""
    return printable(text, limit)


def cell(value: object, style: str = "", limit: int = _SHOWN_CHARACTERS) -> Text:
    """Make a table's cell: numbers with thousands separators, None as a dash."""
    if isinstance(value, Text):
        return value
    text = "-" if value is None else f"{value:,}" if isinstance(value, int) else value
    return Text(escaped(str(text), limit), style=style)


def print_table(
    console: Console, columns: Mapping[str, str], rows: Iterable[Iterable[object]]
) -> None:
    """Print a table; columns have `left`, `right` or, where text wraps, `fold`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in columns.items():
        if kind == "fold":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify=kind, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(cell, row))
    console.print(table)


def print_line(console: Console, *parts: str | Text | tuple[str, str]) -> None:
    """Print one line that the terminal wraps; parts are text, some with a style."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def utc(timestamp_ms: int, timespec: str = "seconds") -> str:
    """Write a record's timestamp as RFC 3339; Kafka has -1 where there is none."""
    try:
        moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(timestamp_ms)
    return rfc3339(moment, timespec)


def rfc3339(moment: datetime, timespec: str = "microseconds") -> str:
    """Write a moment in UTC."""
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


# -- JSON -----------------------------------------------------------------------------


def json_object(report: object) -> bytes:
    """Write a report as one JSON object, indented."""
    return printable_json(msgspec.json.format(_encode(report)))


def json_line(record: ConsumedRecord) -> bytes:
    """
    Write one record as one line of JSON, for programs; nothing is hidden.

    The value is `value` where it is JSON (as it is, without line breaks), and null for
    a tombstone; else `value_text` or `value_base64`. The key is `key` or `key_base64`.
    A JSON value in a Schema Registry's wire format is given without its prefix, with
    the id as `schema_id`.
    """
    line: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": utc(record.timestamp_ms, "milliseconds"),
        **_text("key", record.key, text_name="key"),
        "headers": {
            name: value.decode(errors="backslashreplace")
            for name, value in record.headers.items()
        },
        **_value(record),
    }
    return printable_json(_encode(line)) + b"\n"


def _value(record: ConsumedRecord) -> dict[str, object]:
    if record.value is None:
        return {"value": None}
    schema_id, value = unframed(record)
    try:
        msgspec.json.decode(value)
        # Strings are UTF-8 or it isn't JSON; msgspec doesn't check those it skips.
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _text("value", record.value, text_name="value_text")
    # White space between tokens may hold line breaks; strings can't.
    shown: dict[str, object] = {} if schema_id is None else {"schema_id": schema_id}
    shown["value"] = msgspec.Raw(msgspec.json.format(value, indent=-1))
    return shown


def _text(name: str, value: bytes | None, *, text_name: str) -> dict[str, object]:
    if value is None:
        return {name: None}
    try:
        return {text_name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


# -- Progress -------------------------------------------------------------------------


class Watch:
    """
    Shows on standard error how far reading has come: a bar, or a line now and then.

    Args:
        what: What is read first.
        console: Standard error.
        write_line: Accepts a line where the console isn't a terminal.

    Attributes:
        last: How far it has come.
        bar: What shows it; a context manager.
    """

    def __init__(
        self, what: str, console: Console, write_line: Callable[[str], None]
    ) -> None:
        self.last = Progress(0, 0)
        self._write_line = write_line
        self._is_terminal = console.is_terminal
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._is_terminal,
        )
        self._begin(what)

    def _begin(self, what: str) -> None:
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self._what, self._began = what, time.monotonic()
        self._line_at = self._began + _LINE_SECONDS
        self._task = self.bar.add_task(escaped(what), total=None, rate="-")

    def update(self, progress: Progress, what: str | None = None) -> None:
        """Accept how far it has come; another `what` begins again."""
        if what is not None and what != self._what:
            self._begin(what)
        self.last = progress
        done, total, now = progress.done, progress.total, time.monotonic()
        rate = f"{done / max(now - self._began, 0.001):,.0f}"
        if self._is_terminal:
            self.bar.update(self._task, completed=done, total=total, rate=rate)
        elif now >= self._line_at:
            self._line_at = now + _LINE_SECONDS
            self._write_line(f"{self._what}: {done:,} of {total:,} offsets, {rate}/s")
