"""The board's server with what a test puts into it, in a thread of its own."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from types import TracebackType
from typing import Any, Self

import trio

from bridge.board.board import Board, Bounds
from bridge.board.jobs import Picture
from bridge.board.web import Stream, application
from bridge.http.server import serve
from tests.kit.process import free_ports


Job = dict[str, Any]


def now_ms() -> int:
    """Return this machine's time, as the page gets it."""
    return int(time.time() * 1000)


class StandIn(Board):
    """
    A board that knows what it is given, whatever that is.

    Everything may be changed from the test's thread at any time. While it is silent the
    server does nothing at all.
    """

    def __init__(self) -> None:
        super().__init__("jobs", Bounds(), now_ms() - 900_000)
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/"
        self.jobs: dict[str, Job] = {}
        self.shown: dict[str, Any] = {"reading": "live"}
        self.gaps: list[dict[str, Any]] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.previews: dict[str, Picture] = {}
        self.silent = False
        self._sent: dict[str, Job] = {}
        self._thread: threading.Thread | None = None

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

    def start(self, max_browsers: int = 100) -> None:
        """Serve, always on the same port."""
        self.stream = Stream(self, Bounds(max_browsers=max_browsers))
        started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve, started))
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        """End every stream and close the port."""
        self.silent = False
        if self._thread is not None:
            trio.from_thread.run_sync(self._end.cancel, trio_token=self._token)
            self._thread.join()
            self._thread = None

    async def _serve(self, started: threading.Event) -> None:
        app = application(self, self.stream, [])
        async with trio.open_nursery() as nursery:
            self._end = nursery.cancel_scope
            self._token = trio.lowlevel.current_trio_token()
            await nursery.start(partial(serve, app, f"127.0.0.1:{self._port}"))
            nursery.start_soon(self.stream.run)
            started.set()

    def put(self, job_id: str, **members: Any) -> None:
        """Put a job, or change members of one; without `last_ms` that is now."""
        new: Job = {"id": job_id, "account": "sandbox", "status": "processing"}
        before = self.jobs.get(job_id) or new | {"first_ms": now_ms()}
        # Replaced and never changed in place: an update has what isn't the same.
        self.jobs[job_id] = before | {"last_ms": now_ms()} | members

    def put_preview(self, job_id: str, content_type: str, body: bytes) -> None:
        """Put a job's next preview."""
        version = self.jobs.get(job_id, {}).get("preview", 0) + 1
        self.previews[job_id] = Picture(version, content_type, body)
        self.put(job_id, preview=version)

    def picture(self, request_id: str) -> Picture | None:
        """Return a job's latest picture."""
        return self.previews.get(request_id)

    def figures(self, now_ms: int, now_seconds: float) -> dict[str, object]:
        """Return the figures, with those that the test sets."""
        return super().figures(now_ms, now_seconds) | self.shown

    def has_changes(self) -> bool:
        """Whether any job changed; whatever else did comes within a second."""
        while self.silent:
            time.sleep(0.05)
        return self.jobs != self._sent

    def snapshot(self, figures: dict[str, object]) -> bytes:
        """Return everything."""
        begin = {"topic": "jobs", "since_ms": now_ms() - 900_000}
        return self._message(begin, figures, list(self.jobs.values()))

    def update(self, figures: dict[str, object]) -> bytes:
        """Return what changed."""
        sent, self._sent = self._sent, dict(self.jobs)
        changed = [job for key, job in self._sent.items() if job is not sent.get(key)]
        gone = [key for key in sent if key not in self._sent]
        return self._message({"gone": gone}, figures, changed)

    def _message(self, more: Job, figures: dict[str, object], jobs: list[Job]) -> bytes:
        losses = {"gaps": self.gaps, "dead_letters": self.dead_letters}
        return json.dumps({**more, **losses, "figures": figures, "jobs": jobs}).encode()
