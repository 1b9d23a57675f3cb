"""
`bridge board`: options, the address, signals.

What is shown and how it is read is in `bridge.board`.
"""

from __future__ import annotations

import time
from dataclasses import replace

import click
import trio

from bridge.cli.options import since_option, with_settings
from bridge.cli.output import be_quiet
from bridge.settings import Scope, Settings


__all__ = ["command"]


@click.command("board")
@with_settings(Scope.BOARD)
@since_option("Start this far back", "[BRIDGE_BOARD_SINCE_SECONDS; default: 15m]")
@click.option(
    "--show-results",
    is_flag=True,
    help="Show where results lie, with their signatures. [BRIDGE_BOARD_SHOW_RESULTS]",
)
def command(settings: Settings, *, since: int | None, show_results: bool) -> None:
    """
    Show jobs, gaps and dead letters live in a browser.

    It reads the topics as any other consumer, joins no group, writes nothing, and
    asks no bridge. Only this machine reaches the page unless --listen says otherwise:
    every client that does sees what is on the topics. Ctrl-C ends it.
    """
    # Imported when needed: the page's modules are of no use to --help.
    from bridge.board.running import run  # noqa: PLC0415

    be_quiet(settings)
    board = settings.board
    if since is not None:
        board = replace(board, since_seconds=max(0, round(time.time() - since / 1000)))
    if show_results:
        board = replace(board, show_results=True)
    settings = replace(settings, board=board)
    try:
        trio.run(run, settings, _tell_address)
    except KeyboardInterrupt:
        return


def _tell_address(address: str) -> None:
    click.echo(f"the board of jobs: {address}")
