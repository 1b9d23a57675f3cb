"""A server in the board's place, for what a real stack can't be made to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

import bridge
from bridge.board import guard
from tests.kit.process import free_ports


SHOWN_JOBS = 200

PAGE = Path(bridge.__file__).parent / "board" / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Four updates a second, as the board's own limit is.
_UPDATE_SECONDS = 0.25
_FIGURES_SECONDS = 1.0

Job = dict[str, Any]


def now_ms() -> int:
    """Give this machine's clock, as the protocol has it."""
    return int(time.time() * 1000)


class StandIn:
    """A board's server that says what it is told.

    What is put may be changed from the test's thread at any time; each stream takes it
    with its next update.
    """

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/"
        self.jobs: dict[str, tuple[int, Job]] = {}
        self.figures: dict[str, Any] = {"reading": "live"}
        self.gaps: list[dict[str, Any]] = []
        self.letters: list[dict[str, Any]] = []
        self.previews: dict[str, tuple[str, bytes]] = {}
        self.silent = False
        self.refusal: str | None = None
        self.streams = 0
        self.asked: list[str] = []
        self.since_ms = now_ms() - 900_000
        self.version = 0
        self.stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()

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
        """Serve, on the same port as ever."""
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"board": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End every stream and be away."""
        if self._server is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def put(self, job_id: str, **members: Any) -> None:
        """Put a job, or change members of one."""
        with self._lock:
            before = self.jobs.get(job_id, (0, _new_job(job_id)))[1]
            self.version += 1
            moment = {"last_ms": now_ms(), "events": before["events"] + 1}
            self.jobs[job_id] = (self.version, before | moment | members)

    def forget(self) -> None:
        """Have no jobs any more."""
        with self._lock:
            self.jobs.clear()
            self.version += 1

    def put_preview(self, job_id: str, content_type: str, body: bytes) -> None:
        """Put a job's next preview."""
        before = self.jobs[job_id][1]["preview"] if job_id in self.jobs else None
        version = before["version"] + 1 if before else 1
        self.previews[job_id] = (content_type, body)
        preview = {"version": version, "type": content_type, "bytes": len(body)}
        self.put(job_id, preview=preview)

    def matching(self, query: Mapping[str, list[str]]) -> dict[str, tuple[int, Job]]:
        """Give the jobs that a filter lets through, newest first."""
        statuses = set(filter(None, query.get("status", [""])[0].split(",")))
        wanted = query.get("id", [""])[0]
        with self._lock:
            # In the order of their last events, as versions grow.
            found = sorted(self.jobs.items(), key=lambda each: -each[1][0])
        return {
            job_id: (version, job)
            for job_id, (version, job) in found
            if wanted in job_id and (not statuses or job["status"] in statuses)
        }

    def counted(self) -> dict[str, Any]:
        """Give the figures as they are now."""
        with self._lock:
            jobs = [job for _, job in self.jobs.values()]
        in_flight = sum(1 for job in jobs if job["ended_ms"] is None)
        return {
            "now_ms": now_ms(),
            "events_per_second": 0.0,
            "latency_p50_ms": None,
            "latency_p99_ms": None,
            "in_flight": in_flight,
            "jobs": len(self.jobs),
            "seen": len(self.jobs),
            "lag": 0,
            "away_since_ms": None,
            "note": None,
            "browsers": self.streams,
        } | self.figures

    def snapshot(self, matching: Mapping[str, tuple[int, Job]]) -> dict[str, Any]:
        """Give the first message of a stream."""
        return {
            "version": self.version,
            "topic": "jobs",
            "since_ms": self.since_ms,
            "jobs": [job for _, job in list(matching.values())[:SHOWN_JOBS]],
            "matching": len(matching),
            "gaps": self.gaps,
            "letters": self.letters,
            "figures": self.counted(),
        }


def _new_job(job_id: str) -> Job:
    return {
        "id": job_id,
        "account": "sandbox",
        "status": "processing",
        "progress": None,
        "first_ms": now_ms(),
        "last_ms": now_ms(),
        "ended_ms": None,
        "events": 0,
        "preview": None,
        "preview_note": None,
        "result_url": None,
        "has_result": False,
        "error": None,
        "origin": "socket",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A test goes on as soon as the port is closed; a stream sees it a moment later.
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    """One request: a file of the page, a preview, or a stream."""

    board: ClassVar[StandIn]

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the tests look at what the browser says."""

    def do_GET(self) -> None:
        """Answer."""
        address = urlsplit(self.path)
        try:
            if address.path == "/events":
                self._stream(address.query)
            elif address.path.startswith("/previews/"):
                self._preview(unquote(address.path.removeprefix("/previews/")))
            else:
                self._file(address.path.removeprefix("/") or "index.html")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser has left

    def _file(self, name: str) -> None:
        file = PAGE / name
        if file.parent != PAGE or not file.is_file():
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such file")
            return
        self._answer(HTTPStatus.OK, _TYPES[file.suffix], file.read_bytes())

    def _preview(self, job_id: str) -> None:
        kept = self.board.previews.get(job_id)
        if kept is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"it was let go")
            return
        self._answer(HTTPStatus.OK, *kept)

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self._begin(status, content_type, {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _begin(
        self, status: HTTPStatus, content_type: str, headers: Mapping[str, str]
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in (guard.HEADERS | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, query_text: str) -> None:
        board = self.board
        board.asked.append(query_text)
        if board.refusal is not None:
            body = board.refusal.encode()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", body)
            return
        self._begin(HTTPStatus.OK, "text/event-stream", {"Cache-Control": "no-store"})
        board.streams += 1
        try:
            self._talk(parse_qs(query_text), board.stopping)
        finally:
            board.streams -= 1

    def _talk(self, query: Mapping[str, list[str]], stopping: threading.Event) -> None:
        """Say what there is, and then what changes, until the server stops."""
        board = self.board
        version, matching = board.version, board.matching(query)
        shown = set(list(matching)[:SHOWN_JOBS])
        self._say("snapshot", board.snapshot(matching))
        said = time.monotonic()
        while not stopping.wait(_UPDATE_SECONDS):
            if board.silent:
                continue
            if board.version == version and time.monotonic() < said + _FIGURES_SECONDS:
                continue
            since, version = version, board.version
            matching = board.matching(query)
            newest = dict(list(matching.items())[:SHOWN_JOBS])
            update = {
                "version": version,
                "jobs": [
                    job
                    for job_id, (changed, job) in newest.items()
                    if changed > since or job_id not in shown
                ],
                "gone": [job_id for job_id in shown if job_id not in newest],
                "matching": len(matching),
                "gaps": board.gaps,
                "letters": board.letters,
                "figures": board.counted(),
            }
            shown = set(newest)
            self._say("update", update)
            said = time.monotonic()

    def _say(self, event: str, message: Mapping[str, Any]) -> None:
        text = f"retry: 500\nevent: {event}\ndata: {json.dumps(message)}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()
