"""An auth endpoint that answers what a test wants, and remembers who asked.

Owns `POST /broadcasting/auth` of a dryAPI that misbehaves. The one that behaves
is the sandbox's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl

from tests.kit.publisher import Soketi


__all__ = ["AuthEndpoint", "AuthRequest", "Reply", "signing"]


@dataclass(frozen=True)
class AuthRequest:
    """One request as it came."""

    path: str
    authorization: str
    accept: str
    socket_id: str
    channel: str


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def signing(soketi: Soketi) -> Callable[[AuthRequest], Reply]:
    """Give the answers of a dryAPI that knows the app's secret."""

    def sign(request: AuthRequest) -> Reply:
        auth = soketi.sign_channel(request.socket_id, request.channel)
        body = json.dumps({"auth": auth}).encode()
        return Reply(200, body, {"Content-Type": "application/json"})

    return sign


class _Server(ThreadingHTTPServer):
    """A thread for each connection."""

    # The library's 5 would drop most of some hundred accounts that connect at once.
    request_queue_size = 512


class AuthEndpoint:
    """
    The endpoint.

    Attributes:
        url: dryAPI's base URL, as the bridge takes it.
        answer: Makes the reply to a request; may be exchanged at any time.
        requests: What was asked, in order.
        strayed: The paths that were asked with other methods than POST.
    """

    def __init__(self, answer: Callable[[AuthRequest], Reply]) -> None:
        self.answer = answer
        self.requests: list[AuthRequest] = []
        self.strayed: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                # Pusher's own libraries send a form, the documentation's example JSON.
                form = "urlencoded" in self.headers["Content-Type"]
                fields = dict(parse_qsl(body.decode())) if form else json.loads(body)
                request = AuthRequest(
                    self.path,
                    self.headers["Authorization"],
                    self.headers["Accept"],
                    fields["socket_id"],
                    fields["channel_name"],
                )
                endpoint.requests.append(request)
                reply = endpoint.answer(request)
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def do_GET(self) -> None:
                endpoint.strayed.append(self.path)
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[AuthEndpoint]:
        """Serve in a thread as long as the block runs."""
        thread = Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
