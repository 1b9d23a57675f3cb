"""
`bridge dlq`: options, progress, exit codes.

What dead letters are, how they are shown and which of them may go stands in
`bridge.consumer.dead_letters`; how they go, in `bridge.consumer.replay`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console

from bridge.cli.options import SINCE, output_option, with_settings
from bridge.cli.reading import be_quiet, console, tell, watched
from bridge.consumer.dead_letters import (
    NO_REASON,
    Choice,
    Letter,
    Phases,
    latest_letters,
    letters_as_lines,
    reasons_as_json,
    reasons_of,
    show_letters,
    show_reasons,
    show_tally,
    tally_as_json,
)
from bridge.errors import DeadLetterReason, ExitCode
from bridge.operations import logs
from bridge.settings import Scope, Settings


__all__ = ["command"]

_GROUP_HELP = "Look at dead letters, and replay those that this version can read."

# What a screen or two take.
_LETTERS = 20
# With values of a megabyte, a gigabyte of memory.
_MOST_LETTERS = 1_000

# How letters without a reason are asked for.
_NO_REASON = "none"

_dead_letter_topic = click.option(
    "--dead-letter-topic",
    metavar="NAME",
    help="Where the dead letters are. [default: as the bridge has it, TOPIC.dlq]",
)


@click.group(help=_GROUP_HELP, no_args_is_help=True)
def command() -> None:
    """Hold the commands that look at dead letters."""


@command.command("list")
@with_settings(Scope.READING)
@_dead_letter_topic
@click.option(
    "--since",
    type=SINCE,
    metavar="SPAN|TIME",
    help="Start this far back: 90s, 1h30m, 2d, or a time. [default: at the oldest one]",
)
@click.option(
    "--reason",
    metavar="WORD",
    help="Show the dead letters of this reason; `none` for those that have none.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST_LETTERS),
    metavar="N",
    help=f"With --reason: only the newest N. [default: {_LETTERS}]",
)
@output_option
@click.pass_context
def list_(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
    settings: Settings,
    *,
    dead_letter_topic: str | None,
    since: int | None,
    reason: str | None,
    limit: int | None,
    to_json: bool,
) -> None:
    """
    Show what stands on the dead-letter topic.

    It is a table by reason: how many there are, since when and until when, and the
    last of them. With --reason it is the letters themselves, the newest last. What
    comes while it reads is left out. It writes nothing anywhere.
    """
    if limit is not None and reason is None:
        raise click.UsageError("--limit goes with --reason.")
    be_quiet(settings)
    topic = dead_letter_topic or settings.dead_letter_topic
    since_ms = since
    if reason is None:
        count = partial(reasons_of, settings.kafka, topic, since_ms=since_ms)
        reasons = watched(ctx, topic, count)
        if to_json:
            click.echo(reasons_as_json(topic, reasons))
        else:
            show_reasons(topic, reasons, console())
        return
    find = partial(
        latest_letters,
        settings.kafka,
        topic,
        _of(reason),
        limit or _LETTERS,
        since_ms=since_ms,
    )
    letters, found = watched(ctx, topic, find)
    if to_json:
        click.echo(letters_as_lines(letters), nl=False)
    else:
        show_letters(topic, letters, found, console())
    if not found:
        known = ", ".join(DeadLetterReason)
        tell(f"no dead letter has the reason {reason!r}; the bridge's own are {known}.")


def _of(word: str) -> Callable[[Letter], bool]:
    """Choose the letters of one reason."""
    wanted = NO_REASON if word == _NO_REASON else word
    return lambda letter: letter.reason == wanted


@command.command("replay")
@with_settings(Scope.REPLAY)
@_dead_letter_topic
@click.option(
    "--outbox-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The replay's own outbox directory. [default: replay, in the bridge's]",
)
@click.option(
    "--since",
    type=SINCE,
    metavar="SPAN|TIME",
    help="Only letters that came since: 90s, 1h30m, 2d, or a time. [default: all]",
)
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in DeadLetterReason]),
    metavar="WORD",
    help="Only letters of this reason; refused_by_broker is replayed only so.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and write nothing.")
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
    Carry those that this version can read to the topic of jobs.

    It is for after an upgrade. What can't be read yet stays where it is, and so does
    what its job has overtaken; nothing is replayed twice, however often this is run
    and whatever interrupts it. It may run beside a bridge. It exits with 0 when all
    is done, and with 1 if something is left to be published: run it again then.
    """
    # Imported when needed: it brings the outbox and the relay along.
    from bridge.consumer.replay import directory_of  # noqa: PLC0415
    from bridge.consumer.replay import replay as run  # noqa: PLC0415

    # Of a command that ends, the log is for trouble. It would tear a terminal's bar,
    # and what matters is said at the end.
    quiet = "critical" if sys.stderr.isatty() else "warning"
    level = quiet if settings.log.level == "info" else settings.log.level
    logs.configure(settings.log.format, level, sys.stderr)
    letters = dead_letter_topic or settings.dead_letter_topic
    with Phases(Console(stderr=True), tell) as phases:
        done = trio.run(
            partial(
                run,
                settings,
                directory=directory_of(settings, outbox_dir),
                dead_letter_topic=letters,
                since_ms=since,
                reason=reason,
                is_dry=dry_run,
                on_progress=phases.update,
            )
        )
    choice = Choice(dead_letter_topic=letters, topic=settings.topic)
    if to_json:
        more = {"dry_run": dry_run, "trouble": done.trouble, "waiting": done.waiting}
        click.echo(tally_as_json(choice, done.tally, **more))
    else:
        show_tally(choice, done.tally, console(), is_dry=dry_run)
    if done.trouble is not None:
        waits = f"; {done.waiting:,} records wait in the replay's outbox"
        tell(
            f"not complete ({done.trouble}){'' if dry_run else waits}. Run it again: "
            "it does the rest, and nothing twice."
        )
        ctx.exit(ExitCode.FAILED)
