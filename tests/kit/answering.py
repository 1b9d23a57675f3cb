"""An HTTP server on a socket that sends a test's bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from bridge.http.client import ApiClient
from bridge.settings import Secret


TOKEN = "token-8d1f"

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Give the bytes of a response."""
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Server:
    """
    Sends a test's bytes for each request, the last ones forever.

    Without any it leaves requests unanswered.
    """

    def __init__(self, *responses: bytes) -> None:
        self.responses = list(responses)
        self.requests: list[bytes] = []
        self.connections = self.closed = 0
        self.before_answer: Callable[[], None] = lambda: None
        self.url = ""

    async def start(self, nursery: trio.Nursery, tls: Any = None) -> Server:
        """Listen."""
        serve: Any = partial(trio.serve_tcp, self._serve)
        if tls is not None:
            serve = partial(trio.serve_ssl_over_tcp, self._serve, ssl_context=tls)
        (listener,) = await nursery.start(partial(serve, port=0, host="127.0.0.1"))
        listener = getattr(listener, "transport_listener", listener)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
        return self

    def client(
        self, token: Secret | None = None, *, timeout_seconds: float = 10
    ) -> ApiClient:
        """Give a client for it."""
        token = token or Secret(TOKEN)
        return ApiClient(self.url, token, timeout_seconds=timeout_seconds)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        received = b""
        try:
            async with stream:
                async for chunk in stream:
                    received += chunk
                    head, is_head, body = received.partition(b"\r\n\r\n")
                    length = _LENGTH.search(head)
                    if is_head and len(body) >= int(length[1] if length else 0):
                        self.requests.append(received)
                        self.before_answer()
                        break
                if not self.responses:
                    await stream.receive_some()
                    return
                more = len(self.responses) > 1
                await stream.send_all(
                    self.responses.pop(0) if more else self.responses[0]
                )
        except trio.BrokenResourceError:
            pass  # the client has closed the connection
        finally:
            self.closed += 1
