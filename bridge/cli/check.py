"""
`bridge check`: options, the choice between lines and JSON, exit code.

The steps are in `bridge.check`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import click
import trio
from rich.console import Console

from bridge.check.checks import check, refused_settings
from bridge.check.report import as_json, show
from bridge.cli.options import given_settings, output_option, setting_options
from bridge.cli.output import console, end_at_sigterm
from bridge.errors import ConfigError, ExitCode
from bridge.operations import logs
from bridge.settings import Scope, load


__all__ = ["command"]


@click.command("check")
@setting_options(Scope.SERVICE)
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
    end_at_sigterm()
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
    if to_json:
        click.echo(as_json(report))
    else:
        show(report, console())
    ctx.exit(report.exit_code)


@contextmanager
def _waiting() -> Iterator[None]:
    """Show on a terminal that it is running."""
    errors = Console(stderr=True)
    with errors.status("checking...") if errors.is_terminal else nullcontext():
        yield
