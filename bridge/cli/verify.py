"""
`bridge verify`: options, progress, exit code.

What is proven stands in `bridge.consumer.verify`; an outbox's own word for it is
read in `bridge.outbox.survey` and handed over here.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console

from bridge.cli.options import SINCE, output_option, show_warnings, with_settings
from bridge.cli.signals import treat_sigterm_as_sigint
from bridge.consumer.verify import Claim, Report, Watch, as_json, prove, show
from bridge.errors import ExitCode
from bridge.operations import logs
from bridge.outbox.survey import look
from bridge.settings import Scope, Settings


__all__ = ["command"]

# Findings and notes are lines; a narrower table is torn apart in a CI's log.
_PIPE_COLUMNS = 160


@click.command("verify")
@with_settings(Scope.READING)
@click.option(
    "--dead-letter-topic",
    metavar="NAME",
    help="Where refused records are noted. [default: as the bridge has it, TOPIC.dlq]",
)
@click.option(
    "--outbox-dir",
    "outbox_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Compare with this outbox as well, which may be in use; may be repeated.",
)
@click.option(
    "--since",
    type=SINCE,
    metavar="SPAN|TIME",
    help="Start this far back: 90s, 1h30m, 2d, or a time. [default: all]",
)
@click.option(
    "--isolation",
    type=click.Choice(["read_committed", "read_uncommitted"]),
    default="read_committed",
    show_default=True,
    help="With read_uncommitted, what an aborted transaction left shows as well.",
)
@output_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
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
    compaction took, refused records and records sent again are told apart from
    holes and duplicates. It exits with 0 if the topic is clean and 1 if not.
    """
    logs.configure(settings.log.format, settings.log.level, sys.stderr)
    # The scanner reports what matters of what aiokafka complains about.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Before the topic's ends are known: what an outbox holds for delivered by now
    # must be before them.
    claims = [claim for path in outbox_dirs for claim in _claims(path, settings.topic)]
    treat_sigterm_as_sigint()
    watch = Watch(
        settings.topic,
        Console(stderr=True),
        lambda line: click.echo(f"bridge: {line}", err=True),
    )
    work = partial(
        prove,
        settings.kafka,
        settings.topic,
        dead_letter_topic=dead_letter_topic or settings.dead_letter_topic,
        since_ms=since,
        committed_only=isolation == "read_committed",
        claims=claims,
        on_progress=watch.update,
    )
    try:
        with watch:
            report = trio.run(work)
    except KeyboardInterrupt:
        done = watch.last
        click.echo(
            f"bridge: interrupted after {done.done:,} of {done.total:,} offsets; that "
            "proves nothing.",
            err=True,
        )
        ctx.exit(ExitCode.FAILED)
    _write(report, to_json=to_json)
    ctx.exit(ExitCode.CLEAN if report.is_clean else ExitCode.FAILED)


def _claims(directory: Path, topic: str) -> list[Claim]:
    """Read what an outbox says of its lanes."""
    outbox = look(directory)
    claims = [
        Claim(
            outbox=outbox.id,
            topic=lane.topic,
            partition=lane.partition,
            delivered=lane.acknowledged_sequence,
            waiting=lane.waiting,
            quarantined=lane.unsendable,
        )
        for lane in outbox.partitions
        if lane.topic == topic
    ]
    if not claims:
        show_warnings((f"{directory} holds an outbox without records of {topic}",))
    return claims


def _write(report: Report, *, to_json: bool) -> None:
    if to_json:
        click.echo(as_json(report))
        return
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    show(report, Console(width=width))
