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


def _ask(url: str, seconds: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), url, seconds],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )


def test_ready_after_a_while() -> None:
    """It asks again while the answer is no, and prints the checks in the end."""
    with _serving(503, 200) as url:
        done = _ask(url, "20")

    assert (done.returncode, done.stdout) == (0, '{"checks": "200"}\n')


def test_not_ready() -> None:
    """It fails with the last answer's checks once the time is over."""
    with _serving(503) as url:
        done = _ask(url, "0")

    assert done.returncode == 1
    assert f'{url} says 503: {{"checks": "503"}}' in done.stderr


def test_nobody_there() -> None:
    """It fails with the reason where nobody answers."""
    with _serving(200) as url:
        pass
    done = _ask(url, "0")

    assert done.returncode == 1
    assert f"{url} doesn't answer" in done.stderr
