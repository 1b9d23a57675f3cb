"""A server in the board's place, for what a real stack can't be made to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from bridge.board.web import HEADERS, PAGE, TYPES
from tests.kit.process import free_ports


# Four updates a second, as the board's own limit is.
_UPDATE_SECONDS = 0.25
_FIGURES_SECONDS = 1.0

Job = dict[str, Any]


def now_ms() -> int:
    """Return this machine's time, as the page gets it."""
    return int(time.time() * 1000)


class StandIn:
    """
    A board's server that sends what a test puts into it.

    Everything may be changed from the test's thread at any time; each stream sends it
    with its next update.
    """

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/"
        self.jobs: dict[str, Job] = {}
        self.figures: dict[str, Any] = {"reading": "live"}
        self.gaps: list[dict[str, Any]] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.previews: dict[str, tuple[str, bytes]] = {}
        self.silent = False
        self.refusal: str | None = None
        self.streams = 0
        self.asked = 0
        self.since_ms = now_ms() - 900_000
        self.stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, always on the same port."""
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"board": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End every stream and close the port."""
        if self._server is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def put(self, job_id: str, **members: Any) -> None:
        """Put a job, or change members of one; without `last_ms` that is now."""
        new: Job = {"id": job_id, "account": "sandbox", "status": "processing"}
        before = self.jobs.get(job_id) or new | {"first_ms": now_ms()}
        # Replaced and never changed in place: a stream sees by that what is new.
        self.jobs[job_id] = before | {"last_ms": now_ms()} | members

    def put_preview(self, job_id: str, content_type: str, body: bytes) -> None:
        """Put a job's next preview."""
        version = self.jobs.get(job_id, {}).get("preview", 0) + 1
        self.previews[job_id] = (content_type, body)
        self.put(job_id, preview=version)

    def message(self) -> dict[str, Any]:
        """Return what each message has."""
        jobs = list(self.jobs.values())
        figures = {
            "now_ms": now_ms(),
            "events_per_second": 0.0,
            "latency_p50_ms": None,
            "latency_p99_ms": None,
            "in_flight": sum("ended_ms" not in job for job in jobs),
            "seen": len(jobs),
            "lag": 0,
            "unavailable_since_ms": None,
            "note": None,
        }
        return {
            "figures": figures | self.figures,
            "gaps": self.gaps,
            "dead_letters": self.dead_letters,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A test goes on as soon as the port is closed; a stream sees it a moment later.
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    """One request: a file of the page, a preview, or a stream."""

    board: ClassVar[StandIn]

    def log_message(self, *arguments: object) -> None:
        """Log nothing: the tests look at what the browser says."""

    def do_GET(self) -> None:
        """Answer."""
        path = unquote(urlsplit(self.path).path)
        try:
            if path == "/events":
                self._stream()
            elif path.startswith("/previews/"):
                self._answer(self.board.previews.get(path.removeprefix("/previews/")))
            else:
                file = PAGE / (path.removeprefix("/") or "index.html")
                is_file = file.parent == PAGE and file.is_file()
                self._answer(
                    (TYPES[file.suffix], file.read_bytes()) if is_file else None
                )
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser has disconnected

    def _answer(self, found: tuple[str, bytes] | None, status: int = 200) -> None:
        content_type, body = found or ("text/plain", b"not found")
        headers = {"Content-Length": str(len(body))}
        self._begin(status if found else 404, content_type, headers)
        self.wfile.write(body)

    def _begin(
        self, status: int, content_type: str, headers: Mapping[str, str]
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in (HEADERS | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self) -> None:
        board = self.board
        board.asked += 1
        if board.refusal is not None:
            refusal = ("text/plain", board.refusal.encode())
            self._answer(refusal, HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self._begin(200, "text/event-stream", {"Cache-Control": "no-store"})
        board.streams += 1
        try:
            self._send_all(board.stopping)
        finally:
            board.streams -= 1

    def _send_all(self, stopping: threading.Event) -> None:
        """Send what there is, and then what changes, until the server stops."""
        board, sent = self.board, dict(self.board.jobs)
        begin = {"topic": "jobs", "since_ms": board.since_ms}
        self._send("snapshot", begin | {"jobs": list(sent.values())})
        sent_at = time.monotonic()
        while not stopping.wait(_UPDATE_SECONDS):
            now = dict(board.jobs)
            changed = [job for key, job in now.items() if job is not sent.get(key)]
            gone = [key for key in sent if key not in now]
            is_due = time.monotonic() >= sent_at + _FIGURES_SECONDS
            if not board.silent and (changed or gone or is_due):
                self._send("update", {"jobs": changed, "gone": gone})
                sent, sent_at = now, time.monotonic()

    def _send(self, event: str, message: dict[str, Any]) -> None:
        data = json.dumps(self.board.message() | message)
        self.wfile.write(f"retry: 500\nevent: {event}\ndata: {data}\n\n".encode())
        self.wfile.flush()
