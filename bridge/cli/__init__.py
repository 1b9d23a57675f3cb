"""
The command line: `bridge` itself, which runs the service, and its subcommands.

Commands have no logic of their own: they load the settings and pass them on. A
subcommand's module is imported when it is invoked, so that `bridge --help` and a start
never wait for what they don't use.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

import bridge
from bridge.cli.group import BridgeGroup, LazyCommand
from bridge.cli.options import given_settings, setting_options
from bridge.settings import Scope, load


__all__ = ["root"]

COMMANDS = {
    "board": LazyCommand("bridge.cli.board:command", "Show jobs live in a browser."),
    "check": LazyCommand(
        "bridge.cli.check:command", "Find what would keep the bridge from working."
    ),
    "config": LazyCommand(
        "bridge.cli.config:command", "Show the effective settings and their sources."
    ),
    "dlq": LazyCommand("bridge.cli.readers:dlq", "Show and replay dead letters."),
    "gaps": LazyCommand(
        "bridge.cli.readers:gaps", "Show when events may have been missed."
    ),
    "sandbox": LazyCommand(
        "bridge.cli.sandbox:command", "Run a local dryAPI with simulated jobs."
    ),
    "tail": LazyCommand("bridge.cli.readers:tail", "Watch jobs live."),
    "verify": LazyCommand(
        "bridge.cli.readers:verify",
        "Prove that a topic has no hole, duplicate or reordering.",
    ),
}

# \b: lines stay as they are.
_EPILOG = """
\b
Every setting is also a variable, BRIDGE_ and its name in capitals, and a key in the
file of --config: `bridge config` lists all of them. A secret is never a flag:

\b
  export BRIDGE_CLIENT_ID=... BRIDGE_API_TOKEN_FILE=/run/secrets/dryapi-token
  bridge --topic jobs --bootstrap-servers kafka-1:9092,kafka-2:9092

\b
Exit codes: 0 clean shutdown, 1 other errors, 2 usage or settings, 3 dryAPI refuses,
4 Kafka refuses.
"""

_record_option = click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the wire to this file, redacted, for a replay in tests.",
)


@click.group(
    cls=BridgeGroup,
    commands=COMMANDS,
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 88,
    },
)
@setting_options(Scope.SERVICE)
@_record_option
@click.version_option(
    bridge.__version__, prog_name="bridge", message="%(prog)s %(version)s"
)
@click.pass_context
def root(ctx: click.Context, record: Path | None) -> None:
    """
    Subscribe to dryAPI's job events and publish them to Kafka.

    Each job's events are published in order, keyed by request_id. An outbox on disk
    holds what was received until Kafka has it. It runs until SIGTERM or SIGINT.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(run, record=record)
    elif record is not None:
        raise click.UsageError(
            f"--record is for `bridge` itself: `{ctx.invoked_subcommand}` doesn't "
            "connect to dryAPI.",
            ctx,
        )


@root.command(hidden=True)
@setting_options(Scope.SERVICE)
@_record_option
@click.pass_context
def run(ctx: click.Context, record: Path | None) -> None:
    """Do what `bridge` without a command does."""
    flags, config_file = given_settings(ctx)
    loaded = load(flags, os.environ, config_file)
    # Imported when needed: the service brings Kafka's and trio's modules along, which
    # is most of a start. Of that 0.6 MiB are garbage, and stay: looking for them would
    # take 50 to 80 ms here, and at the rest later hold up both loops 40 ms at a time.
    gc.disable()
    with _without("rich", "pygments", "h2"), ThreadPoolExecutor(1) as reading:
        import trio  # noqa: PLC0415

        from bridge.http.tls import client_tls  # noqa: PLC0415

        # OpenSSL reads the system's certificates meanwhile, 35 ms without the GIL.
        tls = reading.submit(client_tls, loaded.settings.pusher.ca_file)
        from bridge.service import run as serve  # noqa: PLC0415
    gc.freeze()
    gc.enable()
    settings, warnings = loaded.settings, loaded.warnings
    trio.run(partial(serve, settings, warnings, tls=tls.result(), record=record))


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """
    Import as if packages were missing.

    structlog, httpx and httpcore import these where they are installed: 5 MB of colors
    and HTTP/2, which a service has no use for.
    """
    present = {name: sys.modules.pop(name, None) for name in packages}
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in present.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
