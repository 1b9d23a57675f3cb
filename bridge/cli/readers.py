"""
The commands that read topics: `bridge tail`, `verify`, `gaps` and `dlq`.

Standard output is the data, standard error has progress, warnings and errors.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio
from rich.console import Console

from bridge.cli.options import (
    dead_letter_topic_option,
    output_option,
    since_option,
    with_settings,
)
from bridge.cli.output import be_quiet, console, note
from bridge.consumer.dead_letters import (
    NO_REASON,
    latest_letters,
    letters_as_lines,
    reasons_as_json,
    reasons_of,
    show_letters,
    show_reasons,
)
from bridge.consumer.gaps import Choice, gaps_of, overview_as_json, show_overview
from bridge.consumer.render import Watch, json_object
from bridge.consumer.tail import Choice as Records
from bridge.consumer.tail import follow_table, write_lines
from bridge.consumer.verify import show_report
from bridge.consumer.verify import verify as verify_topic
from bridge.errors import ConfigError, DeadLetterReason, ExitCode
from bridge.kafka.reader import Edge, Start, TopicReader
from bridge.operations import logs
from bridge.outbox.survey import look
from bridge.settings import Scope, Settings


__all__ = ["dlq", "gaps", "tail", "verify"]

_T = TypeVar("_T")

# How many letters a screen or two show, and how many are kept: with values of a
# megabyte these are a gigabyte of memory.
_LETTERS = 20
_MAX_LETTERS = 1_000


def _read(topic: str, work: Callable[..., Awaitable[_T]]) -> _T:
    """Run what reads a topic to its end, and show how far it has come."""
    watch = Watch(topic, Console(stderr=True), note)
    try:
        with watch.bar:
            return trio.run(partial(work, on_progress=watch.update))
    except KeyboardInterrupt:
        done = watch.last
    note(f"interrupted after {done.done:,} of {done.total:,} offsets.")
    return click.get_current_context().exit(ExitCode.FAILED)


@click.command("tail")
@with_settings(Scope.READING)
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record.")
@since_option("Start this far back")
@click.option("--key", metavar="REQUEST_ID", help="Only records of this job.")
@click.option(
    "--partition",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only records of this partition.",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after N records.",
)
def tail(  # noqa: PLR0913 - one for each option
    settings: Settings,
    *,
    from_beginning: bool,
    since: int | None,
    key: str | None,
    partition: int | None,
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
    edge = Edge.BEGINNING if from_beginning else Edge.END
    start: Start = edge if since is None else since
    records = Records(None if key is None else key.encode(), partition, max_messages)
    # On a terminal a log line would tear the table, which itself shows an outage of
    # Kafka. A dumb terminal (Emacs, some CI) can't show one.
    is_live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    be_quiet(settings, "critical" if is_live else None)

    async def run() -> None:
        topic = settings.topic
        async with TopicReader(settings.kafka, [topic], start=start) as reader:
            if partition is not None and (topic, partition) not in reader.positions:
                raise ConfigError(f"--partition: {topic} has no partition {partition}")
            if is_live:
                await follow_table(reader, topic, Console(), records)
            else:
                await write_lines(reader, sys.stdout.buffer, records)

    try:
        trio.run(run)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # The lines' reader has ended. What the interpreter would still flush at its end
        # must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.command("verify")
@with_settings(Scope.READING)
@dead_letter_topic_option
@click.option(
    "--outbox-dir",
    "outbox_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Compare with this outbox as well, which may be in use; may be repeated.",
)
@since_option("Start this far back", "[default: all]")
@click.option(
    "--isolation",
    type=click.Choice(["read_committed", "read_uncommitted"]),
    default="read_committed",
    show_default=True,
    help="With read_uncommitted, aborted records are read as well.",
)
@output_option
@click.pass_context
def verify(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    settings: Settings,
    *,
    dead_letter_topic: str | None,
    outbox_dirs: tuple[Path, ...],
    since: int | None,
    isolation: str,
    to_json: bool,
) -> None:
    """
    Prove that a topic has no hole, duplicate or reordering.

    It reads the topic to the ends that it has at the start, and follows the
    sequence that each outbox gives its records in each partition. What retention or
    compaction took, refused records and records sent again are distinguished from
    holes and duplicates. It exits with 0 if the topic is clean and 1 if not.
    """
    be_quiet(settings)
    topic = settings.topic
    # Before the topic's ends are known: what an outbox has acknowledged by now must be
    # before them.
    outboxes = [look(directory) for directory in outbox_dirs]
    for directory, outbox in zip(outbox_dirs, outboxes, strict=True):
        if all(one.topic != topic for one in outbox.partitions):
            note(f"warning: {directory} has an outbox without records of {topic}")
    report = _read(
        topic,
        partial(
            verify_topic,
            settings.kafka,
            topic,
            dead_letter_topic=dead_letter_topic or settings.dead_letter_topic,
            since_ms=since,
            isolation=isolation,
            outboxes=outboxes,
        ),
    )
    if to_json:
        click.echo(json_object(report))
    else:
        show_report(report, console())
    ctx.exit(ExitCode.CLEAN if report.clean else ExitCode.FAILED)


@click.command("gaps")
@with_settings(Scope.READING)
@click.option(
    "--gap-topic", metavar="NAME", help="The topic of gaps. [default: TOPIC.gaps]"
)
@since_option("Only gaps that were open since", "[default: all]")
@click.option("--client-id", metavar="ID", help="Only gaps of this account.")
@click.option("--cause", metavar="WORD", help="Only gaps of this cause.")
@click.option("--open", "is_open", is_flag=True, help="Only gaps that are open.")
@click.option(
    "--unknown",
    "has_unknown",
    is_flag=True,
    help="Only gaps with jobs whose end isn't known.",
)
@output_option
def gaps(  # noqa: PLR0913 - one for each option
    settings: Settings,
    *,
    gap_topic: str | None,
    since: int | None,
    client_id: str | None,
    cause: str | None,
    is_open: bool,
    has_unknown: bool,
    to_json: bool,
) -> None:
    """
    Show when events may have been missed, and what became of the jobs.

    It is a table of the gaps, the newest first, with their totals: how many jobs
    were healed by the status endpoint and by webhooks, and how many were lost for
    good. What arrives while it reads is left out. It writes nothing.
    """
    be_quiet(settings)
    topic = gap_topic or settings.gap_topic
    moment = None if since is None else datetime.fromtimestamp(since / 1000, UTC)
    choice = Choice(client_id, cause, moment, is_open, has_unknown)
    overview = _read(topic, partial(gaps_of, settings.kafka, topic, choice))
    if to_json:
        click.echo(overview_as_json(topic, overview))
    else:
        show_overview(topic, overview, console())
    if cause is not None and cause not in overview.causes and overview.causes:
        known = ", ".join(repr(word) for word in overview.causes)
        note(f"no gap has the cause {cause!r}; the causes are {known}.")


@click.group(
    "dlq",
    help="List dead letters, and replay those that this version can decode.",
    no_args_is_help=True,
)
def dlq() -> None:
    """Hold the commands for dead letters."""


@dlq.command("list")
@with_settings(Scope.READING)
@dead_letter_topic_option
@since_option("Start this far back", "[default: all]")
@click.option(
    "--reason",
    metavar="WORD",
    help="List the dead letters of this reason; `none` for those without one.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, _MAX_LETTERS),
    metavar="N",
    help=f"With --reason: only the newest N. [default: {_LETTERS}]",
)
@output_option
def list_(  # noqa: PLR0913 - one for each option
    settings: Settings,
    *,
    dead_letter_topic: str | None,
    since: int | None,
    reason: str | None,
    limit: int | None,
    to_json: bool,
) -> None:
    """
    Show what is on the dead-letter topic.

    It is a table by reason: how many there are, the first, the last, and an example.
    With --reason it lists the letters themselves, the newest last. What arrives while
    it reads is left out. It writes nothing.
    """
    if limit is not None and reason is None:
        raise click.UsageError("--limit needs --reason.")
    be_quiet(settings)
    topic = dead_letter_topic or settings.dead_letter_topic
    if reason is None:
        reasons = _read(
            topic, partial(reasons_of, settings.kafka, topic, since_ms=since)
        )
        if to_json:
            click.echo(reasons_as_json(topic, reasons))
        else:
            show_reasons(topic, reasons, console())
        return
    wanted, count = NO_REASON if reason == "none" else reason, limit or _LETTERS
    find = partial(latest_letters, settings.kafka, topic, wanted, count, since_ms=since)
    letters, found = _read(topic, find)
    if to_json:
        click.echo(letters_as_lines(letters), nl=False)
    else:
        show_letters(topic, letters, found, console())
    if not found:
        known = ", ".join(DeadLetterReason)
        note(f"no dead letter has the reason {reason!r}; the bridge's are {known}.")


@dlq.command("replay")
@with_settings(Scope.REPLAY)
@dead_letter_topic_option
@click.option(
    "--outbox-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The replay's own outbox directory. [default: replay, in the bridge's]",
)
@since_option("Only letters that arrived since", "[default: all]")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in DeadLetterReason]),
    metavar="WORD",
    help="Only letters of this reason; refused_by_broker is only replayed so.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be replayed.")
@output_option
@click.pass_context
def replay(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    settings: Settings,
    *,
    dead_letter_topic: str | None,
    outbox_dir: Path | None,
    since: int | None,
    reason: str | None,
    dry_run: bool,
    to_json: bool,
) -> None:
    """
    Republish dead letters that this version can decode.

    It is for after an upgrade. What can't be decoded yet stays where it is, and so does
    what its job has overtaken. Nothing is replayed twice, however often this is run
    and whatever interrupts it. It may run beside a bridge. It exits with 0 when all
    is done, and with 1 if something is left to be published: run it again then.
    """
    # Imported when needed: it brings the outbox and the relay along.
    from bridge.consumer import replay as replaying  # noqa: PLC0415
    from bridge.consumer.replay_outbox import directory_of  # noqa: PLC0415

    # A line of the log would tear a terminal's bar, and the end says what matters.
    quiet = "critical" if sys.stderr.isatty() else "warning"
    level = quiet if settings.log.level == "info" else settings.log.level
    logs.configure(settings.log.format, level, sys.stderr)
    choice = replaying.Choice(
        dead_letter_topic=dead_letter_topic or settings.dead_letter_topic,
        topic=settings.topic,
        since_ms=since,
        reason=reason,
    )
    directory = directory_of(settings, outbox_dir)
    run = partial(replaying.replay, settings, choice, directory, is_dry=dry_run)
    watch = Watch("dead letters", Console(stderr=True), note)
    with watch.bar:
        result = trio.run(partial(run, on_progress=watch.update))
    if to_json:
        click.echo(replaying.replayed_as_json(choice, result, is_dry=dry_run))
    else:
        replaying.show_replayed(choice, result, console(), is_dry=dry_run)
    if result.trouble is not None:
        waits = f"; {result.waiting:,} records wait in the replay's outbox"
        note(
            f"not complete ({result.trouble}){'' if dry_run else waits}. Run it again: "
            "it does the rest, and nothing twice."
        )
        ctx.exit(ExitCode.FAILED)
