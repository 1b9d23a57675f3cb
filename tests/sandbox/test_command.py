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
    async with process.stdout, process.stderr:
        try:
            banner = ""
            with trio.fail_after(20):
                while "curl" not in banner:
                    chunk = await process.stdout.receive_some()
                    assert chunk, await process.stderr.receive_some()
                    banner += chunk.decode()
            yield process, banner
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


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


async def test_the_banner_is_true_and_has_no_secret() -> None:
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
        assert (answer.status_code, list(answer.json())) == (201, ["request_id"])
    bridge = "http://user:pa55word@127.0.0.1:8443/webhooks/dryapi"
    listen = "BRIDGE_WEBHOOK_LISTEN=127.0.0.1:8443"
    made_up = "whsec_made-up-for-this-machine-only"
    own = "whsec_not-for-the-screen"
    for options, variables in (
        ((), f"{listen} BRIDGE_WEBHOOK_SECRET={made_up}"),
        (
            ("--app-key", "mine", "--webhook-secret", own),
            f'{listen} \\\n  BRIDGE_WEBHOOK_SECRET="$SANDBOX_WEBHOOK_SECRET"',
        ),
    ):
        async with _running("--webhook-url", bridge, *options) as (_, banner):
            assert f"{variables} bridge --topic jobs\n" in banner
            assert "webhooks    http://127.0.0.1:8443/webhooks/dryapi\n" in banner
            assert ("BRIDGE_PUSHER_APP_KEY=mine " in banner) == bool(options)
            assert "pa55word" not in banner
            assert own not in banner


async def test_what_is_wrong_is_one_line() -> None:
    """With the exit code and the option, address or extra that it is about."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        without_pillow = [sys.executable, "-c", f"{_WITHOUT_PILLOW} main; main()"]
        wrong = []
        for program, options, code, wanted in (
            (_BRIDGE, ["--listen", listen], 1, f"{listen}: Address already in use"),
            (without_pillow, [], 2, "dryapi-kafka-bridge[sandbox]"),
            (_BRIDGE, ["--rate", "-1"], 2, "--rate"),
            (_BRIDGE, ["--listen", "nowhere"], 2, "listen: "),
        ):
            with trio.fail_after(20):
                done = await trio.run_process(
                    [*program, "sandbox", *options],
                    check=False,
                    capture_stdout=True,
                    capture_stderr=True,
                )
            text = done.stderr.decode()
            found = (done.returncode, len(text.splitlines()))
            if found != (code, 1) or wanted not in text:
                wrong.append((options, found, text))
    assert not wrong


def test_wrong_values_are_named_and_secrets_are_not_shown() -> None:
    """An error begins with the option's name; a configuration hides three values."""
    table: list[tuple[str, Any]] = [
        *[("rate", float("nan")), ("app_key", ""), ("webhook_secret", "")],
        *(("pusher_url", url) for url in ("http://127.0.0.1:80", "ws://")),
        *(("webhook_url", u) for u in ("ftp://a/hook", "http:///", "http://a:99999/")),
        *(("listen", text) for text in ("nowhere", "6001", "a:http", "a:99999", "")),
    ]
    for name, value in table:
        with pytest.raises(ConfigError, match=f"^{name}: "):
            SandboxConfig(**{name: value})
    given: dict[str, Any] = {"api_token": "t0ken", "app_secret": "s3cret"}
    shown = repr(SandboxConfig(webhook_secret="whsec_x", **given))
    assert not any(secret in shown for secret in (*given.values(), "whsec_x"))
