"""
`bridge sandbox`: the options, the banner and the signals.

What a sandbox does is in `bridge.sandbox`. The root command reports errors, a missing
Pillow too.
"""

from __future__ import annotations

import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import trio

from bridge.errors import DOCS_URL
from bridge.operations import logs


if TYPE_CHECKING:
    from bridge.sandbox import Sandbox, SandboxConfig


__all__ = ["command"]

# The bridge's own default, which needs no setting.
_APP_KEY = "depin-api-prod-key"
# Made up, as the other defaults are.
_WEBHOOK_SECRET = "whsec_made-up-for-this-machine-only"  # noqa: S105
_SECRET_VARIABLE = "SANDBOX_WEBHOOK_SECRET"  # noqa: S105 - a name

# Where a bridge with one account takes webhooks.
_BRIDGE_PATH = "/webhooks/dryapi"


@click.command("sandbox", epilog=f"All faults: {DOCS_URL}/contribute/sandbox.md")
@click.option(
    "--listen",
    default="127.0.0.1:6001",
    show_default=True,
    metavar="HOST:PORT",
    help="The one port for everything; port 0 takes a free one.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    metavar="EVENTS/S",
    help="Simulated events per second; 0: only what POST /jobs starts.",
)
@click.option(
    "--fail",
    type=click.FloatRange(0, 1),
    default=0.03,
    show_default=True,
    metavar="SHARE",
    help="The share of jobs that fail; as upstream, no event reports it.",
)
@click.option(
    "--previews/--no-previews",
    default=True,
    show_default=True,
    help="Whether in_progress events carry a picture.",
)
@click.option(
    "--preview-bytes",
    type=click.IntRange(600, 1_000_000),
    default=3_000,
    show_default=True,
    metavar="BYTES",
    help="About how long the sharpest preview is as a data URI.",
)
@click.option(
    "--plan",
    type=click.Choice(["basic", "premium"]),
    default="basic",
    show_default=True,
    help="The status endpoint's limits: 50 a minute and 200 a day, or 300 a minute.",
)
@click.option(
    "--wait-for-subscriber/--no-wait-for-subscriber",
    default=True,
    show_default=True,
    help="Whether the simulation waits for the channel's first subscriber.",
)
@click.option(
    "--stamp",
    is_flag=True,
    help="Add sandbox_emitted_at to events (upstream doesn't), to measure delays.",
)
@click.option("--seed", type=int, help="Make the sequence of jobs the same every time.")
@click.option("--client-id", default="sandbox", show_default=True)
@click.option("--api-token", default="sandbox-token", show_default=True)
@click.option("--app-id", default="sandbox", show_default=True)
@click.option("--app-key", default=_APP_KEY, show_default=True)
@click.option(
    "--app-secret",
    envvar="SANDBOX_APP_SECRET",
    show_envvar=True,
    default="sandbox-secret",
    show_default=True,
    help="The variable keeps a real server's secret out of the process list.",
)
@click.option(
    "--pusher-url",
    metavar="WS://HOST:PORT",
    help="Drive this Pusher server (a soketi) instead of the own endpoint;"
    " it must know --app-id, --app-key and --app-secret.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="Post signed webhooks of every job here; SSL_CERT_FILE names a CA of its own.",
)
@click.option(
    "--webhook-secret",
    envvar=_SECRET_VARIABLE,
    show_envvar=True,
    default=_WEBHOOK_SECRET,
    show_default=True,
    help="What signs webhooks.",
)
@click.option(
    "--webhook-prefix",
    type=click.Choice(["DryAPI", "DeAPI"]),
    default="DryAPI",
    show_default=True,
    help="What their headers begin with: X-DryAPI- or X-DeAPI-.",
)
@click.option(
    "--webhook-retry-scale",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="Shorten the waits between ten tries (1 minute to 12 hours) for tests.",
)
def command(**options: Any) -> None:
    """
    Run a dryAPI on this machine, with simulated jobs.

    It serves what consumers of dryAPI's events talk to: the Pusher WebSocket,
    channel authorisation, the status endpoint, previews and results, and it
    sends webhooks. Any Pusher client works with it, and so does `bridge`. The
    default values are made up and meant for this machine: token and secrets
    protect nothing.

    Posting to /sandbox/... makes faults: it drops sockets, breaks the status
    endpoint, ends jobs.
    """
    # Imported late: Pillow comes with the extra.
    from bridge.sandbox import Sandbox, SandboxConfig  # noqa: PLC0415

    logs.configure(stream=sys.stderr)
    trio.run(_run, Sandbox(SandboxConfig(**options)))


async def _run(sandbox: Sandbox) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            base = await nursery.start(_serve, sandbox)
            click.echo(_banner(sandbox.config, base))
            async for _ in signals:
                break
            await sandbox.stop()


async def _serve(sandbox: Sandbox, task_status: trio.TaskStatus[str]) -> None:
    await sandbox.serve(task_status=task_status)


def _banner(config: SandboxConfig, base: str) -> str:
    own = "ws" + base.removeprefix("http")
    pusher = config.pusher_url or own
    what = f"{config.rate:g} events/s" if config.rate else "only what POST /jobs starts"
    settings = {
        "BRIDGE_PUSHER_URL": pusher,
        "BRIDGE_API_URL": base,
        "BRIDGE_CLIENT_ID": config.client_id,
        "BRIDGE_API_TOKEN": config.api_token,
    }
    if config.app_key != _APP_KEY:
        settings["BRIDGE_PUSHER_APP_KEY"] = config.app_key
    variables = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    variables += _for_webhooks(config)
    rows = [" ".join(variables[at : at + 2]) for at in range(0, len(variables), 2)]
    lines = [
        "The sandbox runs; Ctrl-C stops it.",
        "",
        f"  WebSocket   {pusher}/app/{config.app_key}",
        f"  API         {base}",
        f"  statistics  {base}/sandbox/statistics",
        f"  client id   {config.client_id}",
        f"  API token   {config.api_token}",
        f"  app key     {config.app_key}",
        f"  jobs        {what}",
        f"  webhooks    {_place(config.webhook_url)}",
        "",
        "Point the bridge at it:",
        "",
        *(f"  {row} \\" for row in rows[:-1]),
        f"  {rows[-1]} bridge --topic jobs",
        "",
        "Start a job:",
        "",
        f"  curl -X POST {base}/jobs",
        "",
    ]
    return "\n".join(lines)


def _for_webhooks(config: SandboxConfig) -> list[str]:
    """Give the variables of a bridge that takes the webhooks, if they go to one."""
    url = urlsplit(config.webhook_url or "")
    if url.scheme != "http" or url.path != _BRIDGE_PATH:
        return []
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    # Another secret isn't for the screen.
    secret = f'"${_SECRET_VARIABLE}"'
    if config.webhook_secret == _WEBHOOK_SECRET:
        secret = shlex.quote(_WEBHOOK_SECRET)
    return [
        f"BRIDGE_WEBHOOK_LISTEN={host}:{url.port or 80}",
        f"BRIDGE_WEBHOOK_SECRET={secret}",
    ]


def _place(webhook_url: str | None) -> str:
    if webhook_url is None:
        return "none: --webhook-url sends them"
    # Without the user and password that it may hold.
    url = urlsplit(webhook_url)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
