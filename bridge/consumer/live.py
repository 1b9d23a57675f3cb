"""
Drives what a person or a program sees of a topic while it is read.

Owns when something is drawn or written and when it ends. How it looks stands in
`view`, how a line is made in `lines`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live

from bridge.consumer.lines import json_line
from bridge.consumer.tail import JobTable
from bridge.consumer.view import JobView, Situation
from bridge.kafka.reader import ConsumedRecord


__all__ = ["Source", "follow_table", "write_lines"]

# Eight pictures a second: fluent for people, and a tenth of what a bar in
# continuous motion would cost.
_FRAME_SECONDS = 1 / 8


class Source(Protocol):
    """What is followed: a `TopicReader`, as far as this module needs one."""

    async def receive_run(self) -> list[ConsumedRecord]:
        """Wait for the next records; a cancelled call takes none."""
        ...

    @property
    def lag(self) -> int:
        """How many offsets lie before the ends."""
        ...

    @property
    def silent_since_seconds(self) -> float | None:
        """When the brokers fell silent (`time.monotonic`); None while they answer."""
        ...


async def follow_table(  # noqa: PLR0913 - each is one independent choice of the caller
    reader: Source,
    title: str,
    console: Console,
    *,
    max_messages: int | None = None,
    head: Callable[[], Sequence[RenderableType]] = lambda: (),
    head_lines: int = 0,
    observe: Callable[[Sequence[ConsumedRecord]], None] = lambda _records: None,
) -> None:
    """
    Show the jobs live until cancelled; the last picture stays on the terminal.

    It is drawn on the alternate screen, so that nothing is left of a picture
    when the window changes its size; at the end the last one is printed.

    Args:
        reader: What is read; it is open.
        title: The topics' names, for the first line.
        console: The terminal.
        max_messages: End after so many records.
        head: Lines above the table, asked for each picture.
        head_lines: How many those are.
        observe: Is given every run of records.

    Raises:
        KafkaError: Reading failed.
    """
    table = JobTable()

    def picture() -> RenderableType:
        now = time.monotonic()
        silent_since = reader.silent_since_seconds
        situation = Situation(
            now_ms=int(time.time() * 1000),
            rate=table.rate(now),
            lag=reader.lag,
            silent_seconds=None if silent_since is None else now - silent_since,
        )
        view = JobView(table, title, situation, reserved_lines=head_lines)
        return Group(*head(), view)

    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            next_frame = trio.current_time()
            while max_messages is None or table.events < max_messages:
                # A call that is cancelled at the frame's time loses no record.
                with trio.move_on_at(next_frame):
                    run = await reader.receive_run()
                    if max_messages is not None:
                        run = run[: max_messages - table.events]
                    observe(run)
                    table.add(run, time.monotonic())
                if trio.current_time() >= next_frame:
                    live.update(picture(), refresh=True)
                    next_frame = trio.current_time() + _FRAME_SECONDS
    finally:
        console.print(picture())


async def write_lines(
    reader: Source, out: BinaryIO, *, max_messages: int | None = None
) -> None:
    """
    Write each record as a line of JSON until cancelled; flushed after each run.

    A pipe that is full holds the reading back.

    Args:
        reader: What is read; it is open.
        out: Where lines go.
        max_messages: End after so many records.

    Raises:
        BrokenPipeError: Nobody reads the lines any more.
        KafkaError: Reading failed.
    """
    written = 0
    while max_messages is None or written < max_messages:
        run = await reader.receive_run()
        if max_messages is not None:
            run = run[: max_messages - written]
        _write_all(out, b"".join(map(json_line, run)))
        written += len(run)


def _write_all(out: BinaryIO, data: bytes) -> None:
    """Write and flush; an unbuffered stream (PYTHONUNBUFFERED) may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[out.write(rest) :]
    out.flush()
