"""`bridge sandbox` as a program: its banner, its signals and its ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.errors import ConfigError
from bridge.sandbox import SandboxConfig
from tests.sandbox.client import connect


_BRIDGE = [sys.executable, "-m", "bridge"]
_WITHOUT_PILLOW = "import sys; sys.modules['PIL'] = None; from bridge.__main__ import"


@asynccontextmanager
async def _running(*options: str) -> AsyncIterator[tuple[trio.Process, str]]:
    """Run the command on a free port; yields it and its banner."""
    process = await trio.lowlevel.open_process(
        [*_BRIDGE, "sandbox", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        banner = ""
        with trio.fail_after(20):
            while "curl" not in banner:
                chunk = await process.stdout.receive_some()
                assert chunk, await process.stderr.receive_some()
                banner += chunk.decode()
        yield process, banner
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def _run(*argv: str) -> tuple[int, str]:
    """Run a program to its end; returns its exit code and its standard error."""
    with trio.fail_after(20):
        done = await trio.run_process(
            argv, check=False, capture_stdout=True, capture_stderr=True
        )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """Clients get 4200, and the exit code is 0."""
    async with _running() as (process, banner):
        (base,) = set(re.findall(r"http://127\.0\.0\.1:\d+", banner))
        async with connect(base) as client:
            await client.established()
            process.send_signal(number)
            assert (await client.receive())["data"]["code"] == 4200
            await client.wait_closed()
        with trio.fail_after(20):
            assert await process.wait() == 0
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.receive_some()


async def test_the_banner_is_true() -> None:
    """Its variables are complete, and the call that it shows starts a job."""
    async with _running("--rate", "0", "--client-id", "my client") as (_, banner):
        base = re.findall(r"curl -X POST (\S+)/jobs", banner)[0]
        assert f"BRIDGE_PUSHER_URL={base.replace('http', 'ws')} " in banner
        assert f"BRIDGE_API_URL={base} " in banner
        assert "BRIDGE_CLIENT_ID='my client' " in banner
        assert "BRIDGE_API_TOKEN=sandbox-token " in banner
        assert "webhooks    none: --webhook-url" in banner
        assert "BRIDGE_PUSHER_APP_KEY" not in banner
        assert "BRIDGE_WEBHOOK" not in banner
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{base}/jobs")
        assert answer.status_code == 201
        assert answer.json()["request_id"]


async def test_the_banner_names_what_differs_and_no_secret() -> None:
    """An own key, and a bridge that takes the webhooks, with the secret's variable."""
    bridge = "http://127.0.0.1:8443/webhooks/dryapi"
    listen = "BRIDGE_WEBHOOK_LISTEN=127.0.0.1:8443 BRIDGE_WEBHOOK_SECRET="
    made_up = "whsec_made-up-for-this-machine-only"
    secret = ("--webhook-secret", "whsec_not-for-the-screen")
    elsewhere = "http://user:pa55word@127.0.0.1:9/hook"
    table: list[tuple[tuple[str, ...], str]] = [
        (("--app-key", "mine"), "BRIDGE_PUSHER_APP_KEY=mine"),
        (("--webhook-url", bridge), f"  {listen}{made_up} bridge --topic jobs\n"),
        (
            ("--webhook-url", bridge, *secret),
            f'  {listen}"$SANDBOX_WEBHOOK_SECRET" bridge --topic jobs\n',
        ),
        (
            ("--webhook-url", elsewhere, *secret),
            "webhooks    http://127.0.0.1:9/hook\n",
        ),
    ]
    wrong = []
    for options, wanted in table:
        async with _running("--rate", "0", *options) as (_, banner):
            if wanted not in banner or "pa55word" in banner or secret[1] in banner:
                wrong.append((options, banner))
    assert not wrong


async def test_what_is_wrong_is_one_line() -> None:
    """With the exit code and the option, address or extra that it is about."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        table = [
            ([*_BRIDGE, "sandbox", "--listen", listen], 1, f"{listen} is in use"),
            (
                [sys.executable, "-c", f"{_WITHOUT_PILLOW} main; main()", "sandbox"],
                *(2, "dryapi-kafka-bridge[sandbox]"),
            ),
            ([*_BRIDGE, "sandbox", "--rate", "-1"], 2, "--rate"),
            ([*_BRIDGE, "sandbox", "--listen", "nowhere"], 2, "listen: "),
        ]
        wrong = []
        for argv, code, wanted in table:
            found, text = await _run(*argv)
            lines = text.splitlines()
            if (found, len(lines)) != (code, 1) or wanted not in text:
                wrong.append((argv, found, text))
    assert not wrong


def test_wrong_values_are_named_and_secrets_are_not_shown() -> None:
    """An error begins with the option's name; a configuration hides three values."""
    table: list[tuple[str, Any]] = [
        *[("rate", -1), ("rate", float("nan")), ("fail", 1.5), ("preview_bytes", 10)],
        *[("pusher_url", "http://127.0.0.1:80"), ("pusher_url", "ws://")],
        *[("app_key", ""), ("webhook_secret", ""), ("webhook_retry_scale", 1.5)],
        *[
            ("webhook_url", url)
            for url in ("ftp://a/hook", "http:///", "http://a:99999/")
        ],
        *[("listen", text) for text in ("nowhere", "6001", "a:http", "a:99999", "")],
    ]
    taken = []
    for name, value in table:
        try:
            SandboxConfig(**{name: value})
        except ConfigError as error:
            if str(error).startswith(f"{name}: "):
                continue
        taken.append((name, value))
    assert not taken
    config = SandboxConfig(
        api_token="t0ken", app_secret="s3cret", webhook_secret="whsec_x"
    )
    for secret in ("t0ken", "s3cret", "whsec_x"):
        assert secret not in repr(config)
