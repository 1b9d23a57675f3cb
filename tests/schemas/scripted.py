"""A registry, or another server, that answers what a test wants, and who asked it."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import anyio

from bridge.schemas.registry import SchemaRegistry
from bridge.settings import SchemaRegistrySettings, Settings


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What to answer; its last bytes come so much later."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    pause_seconds: float = 0.0


def failure(status: int, code: int, message: str) -> Reply:
    """Make an answer as Confluent's registry words a failure."""
    return Reply(status, json.dumps({"error_code": code, "message": message}).encode())


class ScriptedRegistry:
    """The registry."""

    def __init__(
        self, answer: Callable[[Asked], Reply], tls: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[Asked] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.path, dict(self.headers), json.loads(body or b"{}"))
                registry.asked.append(asked)
                reply = answer(asked)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[:-1])
                self.wfile.flush()
                time.sleep(reply.pause_seconds)
                self.wfile.write(reply.body[-1:])

            do_GET = do_POST  # noqa: N815 - the library's name

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client that has left is what some tests are about.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def serving(self) -> Iterator[ScriptedRegistry]:
        """Answer for the length of a block."""
        thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def made(
    url: str, topic: str = "jobs", timeout_seconds: float = 10.0, **changes: object
) -> SchemaRegistry:
    """Make a client for the records of jobs on one topic."""
    own = SchemaRegistrySettings(url=url, **changes)  # type: ignore[arg-type]
    return SchemaRegistry(Settings(topic=topic, schema_registry=own), timeout_seconds)


def prefix_of(registry: SchemaRegistry, topic: str = "jobs") -> bytes:
    """Ask in asyncio, as the relay does."""
    return anyio.run(registry.prefix, topic, backend="asyncio")
