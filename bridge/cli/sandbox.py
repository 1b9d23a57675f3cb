"""
`bridge sandbox`: the options, the banner and the signals.

What a sandbox does is in `bridge.sandbox`, which needs Pillow.
"""

from __future__ import annotations

import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import trio

from bridge.errors import DOCS_URL, BridgeError, ExitCode
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


class MissingExtraError(BridgeError):
    """Optional packages are missing: report how to install them, and exit."""

    exit_code = ExitCode.USAGE


@click.command(
    "sandbox",
    context_settings={"show_default": True},
    epilog=f"\b\nFaults and options: {DOCS_URL}/contribute/sandbox.md",
)
@click.option(
    "--listen",
    default="127.0.0.1:6001",
    metavar="HOST:PORT",
    help="The one port for everything; 0: a free one.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=20.0,
    metavar="EVENTS/S",
    help="Simulated events; 0: only what POST /jobs starts.",
)
@click.option(
    "--fail",
    type=click.FloatRange(0, 1),
    default=0.03,
    metavar="SHARE",
    help="Jobs that fail; no event reports it.",
)
@click.option(
    "--previews/--no-previews",
    default=True,
    help="Whether in_progress events carry a picture.",
)
@click.option(
    "--preview-bytes",
    type=click.IntRange(600, 1_000_000),
    default=3_000,
    metavar="BYTES",
    help="The sharpest preview's size, as a data URI.",
)
@click.option(
    "--plan",
    type=click.Choice(["basic", "premium"]),
    default="basic",
    help="The account's limits.",
)
@click.option(
    "--wait-for-subscriber/--no-wait-for-subscriber",
    default=True,
    help="Wait for a subscriber, or start at once.",
)
@click.option(
    "--stamp",
    is_flag=True,
    help="Add sandbox_emitted_at to events.",
)
@click.option("--seed", type=int, help="Make each run's jobs the same.")
@click.option("--client-id", default="sandbox")
@click.option("--api-token", default="sandbox-token")
@click.option("--app-id", default="sandbox")
@click.option("--app-key", default=_APP_KEY)
@click.option(
    "--app-secret",
    envvar="SANDBOX_APP_SECRET",
    show_envvar=True,
    default="sandbox-secret",
    help="Signs for the app.",
)
@click.option(
    "--pusher-url",
    metavar="WS://HOST:PORT",
    help="Publish through this soketi, which has the same app id, key and secret.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="Post each job's webhooks here.",
)
@click.option(
    "--webhook-secret",
    envvar=_SECRET_VARIABLE,
    show_envvar=True,
    default=_WEBHOOK_SECRET,
    help="Signs webhooks.",
)
@click.option(
    "--webhook-prefix",
    type=click.Choice(["DryAPI", "DeAPI"]),
    default="DryAPI",
    help="In the headers' names.",
)
@click.option(
    "--webhook-retry-scale",
    type=click.FloatRange(0, 1),
    default=1.0,
    metavar="FACTOR",
    help="Shortens the waits between tries.",
)
def command(**options: Any) -> None:
    """
    Run a dryAPI on this machine, with simulated jobs.

    It serves the Pusher WebSocket, channel authorization, the status endpoint, previews
    and results, and sends webhooks. POST /sandbox/... makes faults. Its token and
    secrets are made up and protect nothing.
    """
    try:
        from bridge.sandbox import Sandbox, SandboxConfig  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise MissingExtraError(
            "`bridge sandbox` needs an extra",
            hint="Install it with pip install 'dryapi-kafka-bridge[sandbox]'",
        ) from error
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
