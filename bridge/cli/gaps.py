"""
`bridge gaps`: options, progress, exit codes.

What is read of gaps and how they are shown stands in `bridge.consumer.gaps`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import click

from bridge.cli.options import reading_options, span_seconds
from bridge.cli.reading import be_quiet, console, tell, watched
from bridge.consumer.gaps import Choice, gaps_of, overview_as_json, show_overview
from bridge.settings import Settings


__all__ = ["command"]


@click.command("gaps")
@reading_options
@click.option(
    "--gap-topic",
    metavar="NAME",
    help="Where the gaps are. [default: as the bridge has it, TOPIC.gaps]",
)
@click.option(
    "--since",
    callback=span_seconds,
    metavar="SPAN",
    help="Only gaps that were open since: 90s, 10m, 2h, 1d. [default: all]",
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
@click.option("--json", "to_json", is_flag=True, help="Write JSON.")
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
        since=None if since is None else _ago(since),
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


def _ago(seconds: int) -> datetime:
    """Give a moment of the past."""
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
