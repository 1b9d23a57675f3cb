"""The clients that dryAPI documents receive the sandbox's events.

The programs in `clients/` are those of dryAPI's documentation. What is changed to run
them here is in this file: host, port, TLS, the address of the authorization, the
credentials, and a preamble that sets globals.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx  # noqa: TID251 - the tests are the sandbox's clients
import pytest
import trio

from bridge.sandbox import Sandbox
from tests.kit import wheels
from tests.sandbox.client import wait_until
from tests.sandbox.conftest import Start


_CLIENTS = Path(__file__).with_name("clients")
_ACCOUNT = {"DRYAPI_CLIENT_ID": "client-42", "DRYAPI_API_TOKEN": "sandbox-token"}
_STEPS = 8
_STATUSES = ["processing", *["in_progress"] * _STEPS, "done"]

# A browser's global, the two names that the documentation leaves to its reader,
# and output that a test can read.
_PREAMBLE = """
globalThis.window = globalThis;
globalThis.YOUR_CLIENT_ID = process.env.DRYAPI_CLIENT_ID;
globalThis.YOUR_API_TOKEN = process.env.DRYAPI_API_TOKEN;
const write = console.log;
console.log = (...parts) => write(JSON.stringify(parts));
"""


def _adapt(text: str, base: str) -> str:
    """Make the documented text use the sandbox; every change is listed."""
    host, port = urlsplit(base).hostname, urlsplit(base).port
    for documented, ours in (
        ("'soketi.dryapi.dev'", f"'{host}'"),
        (": 443", f": {port}"),
        ("port=443", f"port={port}"),
        ("forceTLS: true", "forceTLS: false"),
        ("secure=True", "secure=False"),
        ("https://api.dryapi.dev/", f"{base}/"),
        ("'your-client-id'", "'client-42'"),
        ("'your-api-token'", "'sandbox-token'"),
    ):
        text = text.replace(documented, ours)
    assert "dryapi.dev" not in text
    # Whole: a free port may contain it.
    assert not re.search(r"\b443\b", text)
    return text


async def _run_job(
    sandbox: Sandbox, base: str, program: list[str | Path], folder: Path, last: str
) -> tuple[str, list[str]]:
    """Run a client and, when it is subscribed, a job; give the client's output."""
    process = await trio.lowlevel.open_process(
        [str(part) for part in program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **_ACCOUNT},
    )
    assert process.stdout is not None
    seen = ""
    async with process.stdout:
        try:
            await wait_until(lambda: sandbox.statistics.subscriptions, seconds=25)
            wanted = {"steps": _STEPS, "interval_seconds": 0.02, "fail": False}
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.post(f"{base}/jobs", json=wanted)
            with trio.fail_after(20):
                while last not in seen or not seen.endswith("\n"):
                    chunk = await process.stdout.receive_some()
                    assert chunk, f"the client ended: {seen}"
                    seen += chunk.decode()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    return answer.json()["request_id"], seen.splitlines()


@pytest.mark.connected
@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("quick_start", '"Result:"'),
        ("laravel_echo", '"done"'),
        ("pusher_direct", '"done"'),
        ("node_backend", '"Download:"'),
    ],
)
async def test_clients_of_pusher_js(
    start: Start, seed_clients: Path, tmp_path: Path, name: str, last: str
) -> None:
    """Quick start, Echo, pusher-js and the backend example report every step."""
    sandbox, base = await start(client_id="client-42")
    script = tmp_path / f"{name}.mjs"
    script.write_text(_PREAMBLE + _adapt((_CLIENTS / script.name).read_text(), base))
    # Node looks for packages beside the script.
    (tmp_path / "node_modules").symlink_to(seed_clients / "node_modules")
    request_id, seen = await _run_job(
        sandbox, base, [wheels.node(), script], tmp_path, last
    )
    lines = [json.loads(line) for line in seen]
    if last == '"done"':
        events = [event for _, event in lines]
        assert [event["status"] for event in events] == _STATUSES
        assert {event["request_id"] for event in events} == {request_id}
        assert all(event["preview"] for event in events[1:-1])
        return
    steps = [line.split() for line, *_ in lines if line.startswith("Job ")]
    assert [(job, status) for _, job, status, _ in steps] == [
        (f"{request_id}:", status) for status in _STATUSES
    ]
    assert [steps[0][3], steps[-1][3]] == ["(0.00%)", "(100.00%)"]
    assert f"/results/{request_id}.jpg?expires=" in lines[-1][1]
    is_backend = name == "node_backend"
    assert seen.count('["Preview available"]') == (_STEPS if is_backend else 0)


async def test_pysher(start: Start, tmp_path: Path) -> None:
    """Pysher, which authorizes with a form, prints every event's JSON."""
    sandbox, base = await start(client_id="client-42")
    script = tmp_path / "client.py"
    script.write_text(_adapt((_CLIENTS / "pysher_client.py").read_text(), base))
    request_id, seen = await _run_job(
        sandbox, base, [sys.executable, "-u", script], tmp_path, '"done"'
    )
    assert all(line.startswith("Update: ") for line in seen)
    events = [json.loads(line.removeprefix("Update: ")) for line in seen]
    assert [event["status"] for event in events] == _STATUSES
    assert {event["request_id"] for event in events} == {request_id}
