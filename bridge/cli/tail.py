"""
`bridge tail`: options, signals and the choice between table and lines.

What is shown stands in `bridge.consumer`, how topics are read in
`bridge.kafka.reader`.
"""

from __future__ import annotations

import logging
import os
import sys

import click
import trio
from rich.console import Console

from bridge.cli.options import SINCE, with_settings
from bridge.cli.signals import treat_sigterm_as_sigint
from bridge.consumer.live import follow_table, write_lines
from bridge.kafka.reader import Edge, Start, TopicReader
from bridge.operations import logs
from bridge.settings import Scope, Settings


__all__ = ["command"]


@click.command("tail")
@with_settings(Scope.READING)
@click.option(
    "--from-beginning", is_flag=True, help="Begin with the oldest record there is."
)
@click.option(
    "--since",
    type=SINCE,
    metavar="SPAN|TIME",
    help="Start this far back: 90s, 1h30m, 2d, or at 2026-01-31T12:00:00Z.",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after N records.",
)
def command(
    settings: Settings,
    *,
    from_beginning: bool,
    since: int | None,
    max_messages: int | None,
) -> None:
    """
    Watch jobs live as a consumer of the topic.

    On a terminal it is a table of the jobs, newest first. Otherwise each record
    becomes a line of JSON: topic, partition, offset, timestamp, key, headers and
    value. It joins no consumer group and commits nothing. Ctrl-C ends it.
    """
    if from_beginning and since is not None:
        raise click.UsageError("--from-beginning and --since exclude each other.")
    start: Start = Edge.BEGINNING if from_beginning else Edge.END
    if since is not None:
        start = since
    # Standard output is the data. On a terminal a log line would tear the table,
    # which says itself when Kafka is away. A dumb terminal (Emacs, some CI) can't
    # show one.
    on_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    level = "critical" if on_terminal else settings.log.level
    logs.configure(settings.log.format, level, sys.stderr)
    # The reader reports what matters of what aiokafka complains about.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    treat_sigterm_as_sigint()
    try:
        trio.run(_tail, settings, start, max_messages, on_terminal)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read the lines has seen enough. What the interpreter would
        # still flush at its end must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _tail(
    settings: Settings,
    start: Start,
    max_messages: int | None,
    on_terminal: bool,  # noqa: FBT001 - trio.run passes by position
) -> None:
    """Follow the topic until it is enough."""
    topic = settings.topic
    async with TopicReader(settings.kafka, [topic], start=start) as reader:
        if on_terminal:
            await follow_table(reader, topic, Console(), max_messages=max_messages)
        else:
            await write_lines(reader, sys.stdout.buffer, max_messages=max_messages)
