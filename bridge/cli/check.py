"""
`bridge check`: options, the choice between lines and JSON, exit code.

The steps are in `bridge.check`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import trio
from rich.console import Console

from bridge.check.checks import check, refused_settings
from bridge.check.report import Report, as_json, show
from bridge.cli.options import (
    config_option,
    given_settings,
    output_option,
    setting_options,
)
from bridge.cli.signals import treat_sigterm_as_sigint
from bridge.errors import ConfigError, ExitCode
from bridge.operations import logs
from bridge.settings import Scope, load


__all__ = ["command"]

# One line each in a CI's log.
_PIPE_COLUMNS = 160


@click.command("check")
@setting_options(Scope.SERVICE)
@config_option
@output_option
@click.pass_context
def command(ctx: click.Context, *, to_json: bool) -> None:
    """
    Find what would keep the bridge from working.

    It checks each hop from the settings to the brokers: DNS, TCP, TLS, the Pusher
    handshake, each account's authorization and subscription, the status endpoint, SASL,
    topics, permissions and sizes, the Schema Registry, the outbox directory, the
    webhook port and the clock. Each step is a line: ok, warning, failure or skipped,
    with a hint. It takes less than 10 s, changes nothing, may run beside a bridge, and
    uses one status call of each token. It exits with 0 if nothing failed, else with the
    code with which the bridge would exit.
    """
    flags, config_file = given_settings(ctx)
    # The steps report what a library would log.
    logs.configure("console", "critical", sys.stderr)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    treat_sigterm_as_sigint()
    try:
        loaded = load(flags, os.environ, config_file)
    except ConfigError as error:
        report = refused_settings(error)
    else:
        try:
            with _waiting():
                report = trio.run(check, loaded.settings, loaded.warnings)
        except KeyboardInterrupt:
            click.echo("bridge: interrupted before the check was complete.", err=True)
            ctx.exit(ExitCode.FAILED)
    _write(report, to_json=to_json)
    ctx.exit(report.exit_code)


@contextmanager
def _waiting() -> Iterator[None]:
    """Show on a terminal that it is running."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status("checking..."):
        yield


def _write(report: Report, *, to_json: bool) -> None:
    if to_json:
        click.echo(as_json(report))
        return
    width = None if sys.stdout.isatty() else _PIPE_COLUMNS
    show(report, Console(width=width, highlight=False))
