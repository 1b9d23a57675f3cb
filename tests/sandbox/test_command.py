"""`bridge sandbox` as a program: its banner, its signals and its ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

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
    """Clients are told 4200, the exit code is 0, and it takes no time."""
    async with _running() as (process, banner):
        (base,) = set(re.findall(r"http://127\.0\.0\.1:\d+", banner))
        async with connect(base) as client:
            await client.established()
            process.send_signal(number)
            assert (await client.receive())["data"]["code"] == 4200
            await client.wait_closed()
        with trio.fail_after(5):
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
        assert "BRIDGE_PUSHER_APP_KEY" not in banner
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{base}/jobs")
        assert answer.status_code == 201
        assert answer.json()["request_id"]


async def test_an_own_key_is_part_of_the_banner() -> None:
    """A key that isn't the bridge's default must be set in the bridge too."""
    async with _running("--app-key", "mine") as (_, banner):
        assert "BRIDGE_PUSHER_APP_KEY=mine" in banner
        assert "/app/mine" in banner


async def test_the_banner_says_where_webhooks_go() -> None:
    """The address without its password, and no secret; nowhere by default."""
    url = "http://user:pa55word@127.0.0.1:9/hook"
    secret = "whsec_not-for-the-screen"
    options = ("--webhook-url", url, "--webhook-secret", secret)
    async with _running("--rate", "0", *options) as (_, banner):
        assert "webhooks    http://127.0.0.1:9/hook\n" in banner
        assert "pa55word" not in banner
        assert secret not in banner
        assert "BRIDGE_WEBHOOK" not in banner
    async with _running("--rate", "0") as (_, banner):
        assert "webhooks    none: --webhook-url" in banner
        assert "BRIDGE_WEBHOOK" not in banner


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        ([], "whsec_made-up-for-this-machine-only"),
        (["--webhook-secret", "whsec_mine"], '"$SANDBOX_WEBHOOK_SECRET"'),
    ],
)
async def test_a_bridge_that_takes_webhooks_is_told_how(
    options: list[str], secret: str
) -> None:
    """The banner's command starts one that listens where they are sent."""
    url = "http://127.0.0.1:8443/webhooks/dryapi"
    async with _running("--rate", "0", "--webhook-url", url, *options) as (_, banner):
        command = f"BRIDGE_WEBHOOK_LISTEN=127.0.0.1:8443 BRIDGE_WEBHOOK_SECRET={secret}"
        assert f"  {command} bridge --topic jobs\n" in banner


async def test_a_port_in_use_is_one_line() -> None:
    """Exit code 1, and a line that names the address and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = await _run(*_BRIDGE, "sandbox", "--listen", listen)
    assert code == 1
    (line,) = text.splitlines()
    assert listen in line
    assert "--listen" in line


async def test_a_missing_pillow_is_one_line() -> None:
    """Exit code 2, and a line that names the extra."""
    program = f"{_WITHOUT_PILLOW} main; main()"
    code, text = await _run(sys.executable, "-c", program, "sandbox")
    assert code == 2
    (line,) = text.splitlines()
    assert "dryapi-kafka-bridge[sandbox]" in line


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "-1"],
        ["--fail", "2"],
        ["--listen", "nowhere"],
        ["--pusher-url", "http://x"],
        ["--preview-bytes", "1"],
        ["--webhook-url", "nowhere"],
        ["--webhook-prefix", "Other"],
        ["--webhook-retry-scale", "2"],
    ],
)
async def test_wrong_options_are_one_line(options: list[str]) -> None:
    """Exit code 2, and a line that names the option's value or its range."""
    code, text = await _run(*_BRIDGE, "sandbox", *options)
    assert code == 2
    assert len(text.splitlines()) == 1
    assert "Traceback" not in text
