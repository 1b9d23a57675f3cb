"""The clients that dryAPI documents receive the sandbox's events.

The programs in `clients/` stand there as dryAPI's documentation shows them. What
is changed to run them here is in this file: host, port, TLS, the authorisation's
address, the credentials, and a preamble that sets globals.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox
from tests.kit import wheels
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start


_CLIENTS = Path(__file__).with_name("clients")
_CLIENT_ID = "client-42"
_STEPS = 8
_STATUSES = ["processing", *["in_progress"] * _STEPS, "done"]

# A browser's global, the two names that the documentation leaves to its reader,
# and output that a test can read.
_PREAMBLE = f"""
globalThis.window = globalThis;
globalThis.YOUR_CLIENT_ID = {_CLIENT_ID!r};
globalThis.YOUR_API_TOKEN = 'sandbox-token';
const write = console.log;
console.log = (...parts) => write(JSON.stringify(parts));
"""


def _adapt(text: str, base: str) -> str:
    """Make the documented text speak to the sandbox; every change is listed."""
    host, port = urlsplit(base).hostname, urlsplit(base).port
    for documented, ours in (
        ("'soketi.dryapi.dev'", f"'{host}'"),
        (": 443", f": {port}"),
        ("port=443", f"port={port}"),
        ("forceTLS: true", "forceTLS: false"),
        ("secure=True", "secure=False"),
        ("https://api.dryapi.dev/", f"{base}/"),
        ("'your-client-id'", f"'{_CLIENT_ID}'"),
        ("'your-api-token'", "'sandbox-token'"),
    ):
        text = text.replace(documented, ours)
    assert "dryapi.dev" not in text
    # Alone: a free port may have it within.
    assert not re.search(r"\b443\b", text)
    return text


@asynccontextmanager
async def _running(program: list[str | Path], folder: Path) -> AsyncIterator[_Output]:
    """Run a client; yields its output, standard error in it."""
    environment = {
        **os.environ,
        "DRYAPI_CLIENT_ID": _CLIENT_ID,
        "DRYAPI_API_TOKEN": "sandbox-token",
    }
    process = await trio.lowlevel.open_process(
        [str(part) for part in program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
    )
    assert process.stdout is not None
    try:
        yield _Output(process.stdout)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


class _Output:
    """A program's output, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def line(self) -> str:
        """Wait for the next line."""
        while b"\n" not in self._buffer:
            chunk = await self._stream.receive_some()
            assert chunk, f"the client ended: {self._buffer.decode()}"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


async def _run_job(
    sandbox: Sandbox, base: str, output: _Output, last: str
) -> tuple[str, list[str]]:
    """Wait until the client is subscribed, run a job, and read up to its end."""
    with trio.fail_after(30):
        # The client says nothing while all goes well.
        await wait_until(lambda: sandbox.statistics.subscriptions, seconds=25)
        wanted = {"steps": _STEPS, "interval_seconds": 0.02, "fail": False}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{base}/jobs", json=wanted)
        seen = [await output.line()]
        while last not in seen[-1]:
            seen.append(await output.line())
    return answer.json()["request_id"], seen


def _check_events(request_id: str, events: list[dict[str, Any]]) -> None:
    assert [event["status"] for event in events] == _STATUSES
    for event in events:
        assert set(event) == {
            "request_id",
            "status",
            "preview",
            "result_url",
            "progress",
        }
        assert event["request_id"] == request_id
        assert event["progress"] == f"{float(event['progress']):.2f}"
        if event["status"] == "in_progress":
            assert event["preview"].startswith("data:image/jpeg;base64,/9j/")
        else:
            assert event["preview"] is None
        assert (event["result_url"] is not None) == (event["status"] == "done")
    progress = [float(event["progress"]) for event in events]
    assert progress == sorted(set(progress))
    assert (progress[0], progress[-1]) == (0, 100)


async def _run_javascript(
    name: str, start: Start, packages: Path, folder: Path, last: str
) -> tuple[str, list[list[Any]]]:
    sandbox, base = await start(client_id=_CLIENT_ID)
    text = _adapt((_CLIENTS / f"{name}.mjs").read_text(), base)
    script = folder / f"{name}.mjs"
    script.write_text(_PREAMBLE + text)
    # Node looks for packages beside the script.
    (folder / "node_modules").symlink_to(packages / "node_modules")
    async with _running([wheels.node(), script], folder) as output:
        request_id, seen = await _run_job(sandbox, base, output, last)
    return request_id, [json.loads(line) for line in seen]


@pytest.mark.connected
async def test_quick_start_with_pusher_js(
    start: Start, seed_clients: Path, tmp_path: Path
) -> None:
    """The quick start prints every step of a job and its result's address."""
    request_id, seen = await _run_javascript(
        "quick_start", start, seed_clients, tmp_path, '"Result:"'
    )
    *steps, (label, url) = seen
    words = [line.replace("(", "").replace("%)", "").split() for (line,) in steps]
    assert [each[:2] for each in words] == [["Job", f"{request_id}:"]] * len(words)
    assert [each[2] for each in words] == _STATUSES
    assert (words[0][3], words[-1][3]) == ("0.00", "100.00")
    assert label == "Result:"
    assert f"/results/{request_id}.jpg?expires=" in url


@pytest.mark.connected
@pytest.mark.parametrize("name", ["laravel_echo", "pusher_direct"])
async def test_echo_and_pusher_js_get_whole_events(
    start: Start, seed_clients: Path, tmp_path: Path, name: str
) -> None:
    """Laravel Echo and pusher-js hand over decoded events with every member."""
    request_id, seen = await _run_javascript(
        name, start, seed_clients, tmp_path, '"done"'
    )
    assert {label for label, _ in seen} == {"Job update:"}
    _check_events(request_id, [event for _, event in seen])


@pytest.mark.connected
async def test_node_backend_with_pusher_js(
    start: Start, seed_clients: Path, tmp_path: Path
) -> None:
    """The backend example sees connection, subscription, previews and the result."""
    request_id, seen = await _run_javascript(
        "node_backend", start, seed_clients, tmp_path, '"Download:"'
    )
    first = [parts[0] for parts in seen]
    assert first[:2] == ["Connected", "Subscribed"]
    steps = [line.split()[2] for line in first if line.startswith("Job ")]
    assert steps == _STATUSES
    assert first.count("Preview available") == _STEPS
    assert f"/results/{request_id}.jpg?" in seen[-1][1]


async def test_pysher(start: Start, tmp_path: Path) -> None:
    """Pysher, which authorises with a form, prints every event's JSON."""
    sandbox, base = await start(client_id=_CLIENT_ID)
    script = tmp_path / "client.py"
    script.write_text(_adapt((_CLIENTS / "pysher_client.py").read_text(), base))
    async with _running([sys.executable, "-u", script], tmp_path) as output:
        request_id, seen = await _run_job(sandbox, base, output, '"done"')
    assert all(line.startswith("Update: ") for line in seen)
    events = [json.loads(line.removeprefix("Update: ")) for line in seen]
    _check_events(request_id, events)
