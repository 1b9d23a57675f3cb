"""
How a proof looks: a bar while it runs, findings and a table at its end, or JSON.

Owns words, columns and colours, and that nothing from a record reaches the
terminal as a command to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from bridge.consumer.verify.report import Finding, Kind, LaneReport, Report
from bridge.kafka.scan import Progress
from bridge.text import printable_json


__all__ = ["Watch", "as_json", "show"]

# Where there is no terminal, a line so often.
_LINE_SECONDS = 5.0
# Lanes that are shown: more than this are counted together.
_SHOWN_LANES = 200
# A UUID's first group tells the outboxes of a topic apart.
_OUTBOX_CHARACTERS = 8


class Watch:
    """
    Shows how far reading has come, on standard error.

    Args:
        topic: What is read.
        console: Standard error.
        write_line: Takes a line where the console is no terminal.
    """

    def __init__(
        self, topic: str, console: Console, write_line: Callable[[str], None]
    ) -> None:
        self._topic = topic
        self._write_line = write_line
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._began = self._next_line = time.monotonic()
        self.last = Progress(0, 0)
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}/s"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )

    def __enter__(self) -> Self:
        self._next_line = self._began + _LINE_SECONDS
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._topic, total=None, rate="-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Take in how far it has come."""
        self.last = progress
        now = time.monotonic()
        rate = f"{progress.done / max(now - self._began, 0.001):,.0f}"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=progress.done, total=progress.total, rate=rate
            )
        elif now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self._write_line(
                f"{self._topic}: {progress.done:,} of {progress.total:,} offsets, "
                f"{rate}/s"
            )


def as_json(report: Report) -> bytes:
    """Write a report as one JSON object."""
    encoded: dict[str, object] = {
        "topic": report.topic,
        "clean": report.is_clean,
        "records": report.records,
        **msgspec.to_builtins(report),
    }
    return printable_json(msgspec.json.format(msgspec.json.encode(encoded)))


def show(report: Report, console: Console) -> None:
    """Print findings, notes, the table of lanes and the verdict."""
    for finding in report.findings:
        console.print(_finding_line(report.topic, finding), soft_wrap=True)
    if report.lanes:
        console.print(_lanes(report.lanes))
    if len(report.lanes) > _SHOWN_LANES:
        left = len(report.lanes) - _SHOWN_LANES
        console.print(f"... and {left:,} lanes more (--json has all)")
    for note in report.notes:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def _finding_line(topic: str, finding: Finding) -> Text:
    first, last = finding.first_sequence, finding.last_sequence
    text = Text(f"{topic}-{finding.partition}@{finding.offset} ")
    text.append(finding.kind.value, style="bold red")
    if first is None or last is None:
        text.append(":")
    elif first == last:
        text.append(f": sequence {first}")
    else:
        text.append(f": sequences {first}-{last}")
        if finding.count != last - first + 1:
            text.append(f", {finding.count} of them")
    text.append(f" of outbox {_plain(finding.outbox)}")
    if finding.kind in {Kind.HOLE, Kind.MISSING_END}:
        after = finding.after_offset
        where = "nothing before it" if after is None else f"after offset {after}"
        text.append(f", {where}")
    if finding.ce_id is not None:
        text.append(f", ce_id {_plain(finding.ce_id)}")
    return text


def _lanes(lanes: list[LaneReport]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("partition", justify="right")
    table.add_column("outbox")
    table.add_column("origin")
    for name in ("records", "first", "last"):
        table.add_column(name, justify="right")
    told = {
        name: [getattr(lane, name) for lane in lanes]
        for name in ("unread", "trimmed", "compacted", "refused", "resent", "waiting")
    }
    # Most topics have none of these.
    shown = [name for name, values in told.items() if any(values)]
    for name in shown:
        table.add_column(name, justify="right")
    table.add_column("end")
    for lane in lanes[:_SHOWN_LANES]:
        table.add_row(
            str(lane.partition),
            _plain(lane.outbox[:_OUTBOX_CHARACTERS]),
            _plain(lane.origin),
            f"{lane.records:,}",
            f"{lane.first_sequence:,}",
            f"{lane.last_sequence:,}",
            *(f"{getattr(lane, name) or 0:,}" for name in shown),
            lane.end,
        )
    return table


def _verdict(report: Report) -> Text:
    rate = report.records / max(report.seconds, 0.001)
    foreign = sum(one.foreign for one in report.partitions)
    read = (
        f"{report.records:,} records of {report.topic} read in {report.seconds:.1f} s "
        f"({rate:,.0f}/s, {report.isolation}), {foreign:,} of them no bridge's."
    )
    if report.is_clean:
        return Text.assemble(
            ("Clean: ", "bold green"), "no hole, no duplicate, no reordering. ", read
        )
    found = "; ".join(
        f"{count:,} {kind} ({Kind(kind).meaning})"
        for kind, count in report.counts.items()
    )
    return Text.assemble(("Not clean: ", "bold red"), f"{found}. ", read)


def _plain(text: str) -> str:
    """Leave out whatever a terminal could take for a command."""
    return "".join(c if c.isprintable() else "?" for c in text)
