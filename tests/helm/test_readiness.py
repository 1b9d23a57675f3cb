"""What `helm test` runs in its pod, run here."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager

from tests.helm import chart
from tests.schemas.scripted import Asked, Reply, ScriptedRegistry


SCRIPT = chart.CHART / "files" / "readiness.py"


def _serving(*codes: int) -> AbstractContextManager[ScriptedRegistry]:
    """Answer with these codes in turn, the last one from then on."""
    left = list(codes)

    def answer(_: Asked) -> Reply:
        code = left.pop(0) if len(left) > 1 else left[0]
        return Reply(code, f'{{"checks": "{code}"}}'.encode())

    return ScriptedRegistry(answer).serving()


def _ask(url: str, seconds: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url, seconds],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout, done.stderr


def test_waits_until_the_bridge_is_ready() -> None:
    """It asks again while the answer is no, and prints the checks in the end."""
    with _serving(503, 200) as server:
        assert _ask(server.url, "20") == (0, '{"checks": "200"}\n', "")


def test_fails_with_the_reason_once_the_time_is_over() -> None:
    """It fails with the last answer's checks, or says that there is no answer."""
    with _serving(503) as server:
        url = server.url
        unready, _, checks = _ask(url, "0")
    absent, _, reason = _ask(url, "0")

    assert (unready, absent) == (1, 1)
    assert f'{url} returned 503: {{"checks": "503"}}' in checks
    assert f"{url} doesn't respond" in reason
