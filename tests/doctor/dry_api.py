"""A dryAPI that answers what a test wants: headers, signatures, and a job's status.

Owns its HTTP alone; who signs is the test's to say.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.kit.publisher import Soketi


__all__ = ["Answer", "DryApi", "OfJob", "StatusAnswer", "signing", "unknown"]

# Status, content type and body, for a socket id and a channel.
Answer = Callable[[str, str], tuple[int, str, bytes]]

# Status, headers and body, for a request about a job.
StatusAnswer = tuple[int, dict[str, str], bytes]
OfJob = Callable[[], StatusAnswer]

_ASKED_ABOUT = "/api/v1/client/request-status/"


def unknown(
    *, minute: tuple[int, int] = (49, 50), day: tuple[int, int] | None = (150, 200)
) -> StatusAnswer:
    """Know no such job, and say how many calls of how many are left."""
    headers = {
        "X-RateLimit-Remaining": str(minute[0]),
        "X-RateLimit-Limit": str(minute[1]),
    }
    if day is not None:
        headers["X-RateLimit-Daily-Remaining"] = str(day[0])
        headers["X-RateLimit-Daily-Limit"] = str(day[1])
    return 404, headers, b'{"message": "Not found", "statusCode": 404}'


def signing(soketi: Soketi) -> Answer:
    """Answer as a dryAPI that knows the app's secret."""

    def sign(socket_id: str, channel: str) -> tuple[int, str, bytes]:
        auth = soketi.sign_channel(socket_id, channel)
        return 200, "application/json", json.dumps({"auth": auth}).encode()

    return sign


class _Server(ThreadingHTTPServer):
    # Many accounts knock at once; the usual five places turn some of them away.
    request_queue_size = 128


class DryApi:
    """
    The API.

    Args:
        answer: Makes the answers to requests for a signature.
        tls: Its certificate, for https.
        skew_seconds: How far its clock is ahead; None for an answer without time.
        of_job: Makes the answers to requests for a job's status.

    Attributes:
        port: Its port on 127.0.0.1.
        url: Its address.
        asked: The tokens and channels of all requests for a signature.
        asked_about: The tokens and jobs of all requests for a status.
    """

    def __init__(
        self,
        answer: Answer,
        tls: ssl.SSLContext | None = None,
        *,
        skew_seconds: float | None = 0.0,
        of_job: OfJob = unknown,
    ) -> None:
        self.asked: list[tuple[str, str]] = []
        self.asked_about: list[tuple[str, str]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response_only(404)
                if skew_seconds is not None:
                    now = time.time() + skew_seconds
                    self.send_header("Date", formatdate(now, usegmt=True))
                self.end_headers()

            def do_GET(self) -> None:
                if not self.path.startswith(_ASKED_ABOUT):
                    self.send_error(404)
                    return
                job = self.path.removeprefix(_ASKED_ABOUT)
                api.asked_about.append((self.headers["Authorization"], job))
                status, headers, body = of_job()
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                fields = json.loads(self.rfile.read(length))
                channel = fields["channel_name"]
                api.asked.append((self.headers["Authorization"], channel))
                status, kind, body = answer(fields["socket_id"], channel)
                self.send_response_only(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        # A client that has left is what some tests are about.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.port = self._server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[DryApi]:
        """Serve in a thread as long as the block runs."""
        thread = Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
