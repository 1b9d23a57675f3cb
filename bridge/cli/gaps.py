"""
`bridge gaps`: options, progress, exit codes.

What is read of gaps and how they are shown stands in `bridge.consumer.gaps`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import click

from bridge.cli.options import SINCE, output_option, with_settings
from bridge.cli.reading import be_quiet, console, tell, watched
from bridge.consumer.gaps import Choice, gaps_of, overview_as_json, show_overview
from bridge.settings import Scope, Settings


__all__ = ["command"]


@click.command("gaps")
@with_settings(Scope.READING)
@click.option(
    "--gap-topic",
    metavar="NAME",
    help="Where the gaps are. [default: as the bridge has it, TOPIC.gaps]",
)
@click.option(
    "--since",
    type=SINCE,
    metavar="SPAN|TIME",
    help="Only gaps that were open since: 90s, 1h30m, 2d, or a time. [default: all]",
)
@click.option("--client-id", metavar="ID", help="Only gaps of this account.")
@click.option("--cause", metavar="WORD", help="Only gaps of this cause.")
@click.option("--open", "is_open", is_flag=True, help="Only gaps that are open.")
@click.option(
    "--unknown",
    "has_unknown",
    is_flag=True,
    help="Only gaps with jobs of which nobody can tell what became.",
)
@output_option
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    ctx: click.Context,
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
    good. What comes while it reads is left out. It writes nothing anywhere.
    """
    be_quiet(settings)
    topic = gap_topic or settings.gap_topic
    choice = Choice(
        client_id=client_id,
        cause=cause,
        since=None if since is None else datetime.fromtimestamp(since / 1000, UTC),
        is_open=is_open,
        has_unknown=has_unknown,
    )
    overview = watched(ctx, topic, partial(gaps_of, settings.kafka, topic, choice))
    if to_json:
        click.echo(overview_as_json(topic, overview))
    else:
        show_overview(topic, overview, console())
    if cause is not None and cause not in overview.causes and overview.causes:
        there = ", ".join(repr(word) for word in overview.causes)
        tell(f"no gap has the cause {cause!r}; those that are there: {there}.")
