"""What `helm test` runs in its pod, run here."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.helm import chart


SCRIPT = chart.CHART / "files" / "readiness.py"


@contextmanager
def _serving(*codes: int) -> Iterator[str]:
    """Answer with these codes in turn, the last one from then on."""
    left = list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = left.pop(0) if len(left) > 1 else left[0]
            body = f'{{"checks": "{code}"}}'.encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


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
    with _serving(503, 200) as url:
        assert _ask(url, "20") == (0, '{"checks": "200"}\n', "")


def test_fails_with_the_reason_once_the_time_is_over() -> None:
    """It fails with the last answer's checks, or says that there is no answer."""
    with _serving(503) as url:
        unready, _, checks = _ask(url, "0")
    absent, _, reason = _ask(url, "0")

    assert (unready, absent) == (1, 1)
    assert f'{url} says 503: {{"checks": "503"}}' in checks
    assert f"{url} doesn't answer" in reason
