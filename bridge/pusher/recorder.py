"""
`bridge --record FILE`: the frames of each WebSocket with their times, without content.

A session calls a `Note` at each step and never waits for it: notes are queued, and a
thread masks and writes them as lines of JSON: see docs/contribute/recording.md.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import structlog

from bridge import __version__
from bridge.errors import ConfigError
from bridge.events.job_status import STATUSES, JobStatusRecord
from bridge.pusher.connection import Note
from bridge.settings import PusherSettings


__all__ = ["Recorder"]

_BEGINNING: Final = b'{"at":0.0,"kind":"started",'
_NOTE_BYTES: Final = 400  # the memory of a queued note, besides its text
_FLUSH_SECONDS: Final = 0.7  # a stop takes a second at most, with the last write
_MOST_CHARACTERS: Final = 1024 * 1024  # masking a longer text could delay a stop

# All names of members and all strings that are shown.
_VOCABULARY: Final = {*STATUSES, *JobStatusRecord.__struct_fields__} | {
    *("activity_timeout", "auth", "channel", "channel_data", "code", "data", "error"),
    *("event", "message", "socket_id", "type", "user_id", "pending", "AuthError"),
    *("pusher:connection_established", "pusher:error", "pusher:ping", "pusher:pong"),
    *("pusher:subscribe", "pusher:subscription_error", "request.status.updated"),
    *("pusher_internal:subscription_succeeded", "LimitReached", "ServerError"),
}
_IDS: Final = {"channel", "event", "request_id", "socket_id", "user_id"}
_NUMBERS: Final = {"activity_timeout", "code", "progress", "status"}
_PERCENTAGE: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?")
_CHANNEL_PREFIX: Final = "private-client."

_encode: Final = partial(json.dumps, separators=(",", ":"))
_log = structlog.get_logger("bridge.pusher")


class Recorder:
    """
    The file of a recording, and the thread that calls `run`.

    A recording at its path is continued; `ConfigError` says that the file is something
    else, or can't be opened. It ends at `most_bytes`: a forgotten recording must not
    fill the outbox's disk. `dropped` counts the notes for which too much waited.
    """

    def __init__(
        self,
        path: Path,
        settings: PusherSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_bytes: int = 1024**3,
        most_waiting_bytes: int = 16 * 1024**2,
    ) -> None:
        self._path = path
        self._settings = settings or PusherSettings()
        self._clock = clock
        self._start = clock()
        self._most_bytes = most_bytes
        self._most_waiting_bytes = most_waiting_bytes
        self._key = secrets.token_bytes(32)  # of the pseudonyms; written nowhere
        self._queue: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        # Each is written by one thread at a time, so they need no lock.
        self._queued_bytes = self._taken_bytes = self._connections = 0
        self.lines = self.dropped = 0
        self._flush_by = float("inf")
        try:
            self._file = os.fdopen(_opened(path), "ab")
        except OSError as error:
            raise ConfigError(f"--record: {path}: {error.strerror}") from error

    def connection(self, client_id: str) -> Note:
        """Number a connection that is being dialed, and give its note."""
        self._connections += 1
        head = {"connection": self._connections, "client": self._pseudonym(client_id)}
        return partial(self._note, head)

    def stop(self) -> None:
        """Have `run` write what waits and return, within a second."""
        self._flush_by = time.monotonic() + _FLUSH_SECONDS
        self._queue.put(None)

    def run(self) -> None:
        """Write until `stop` or until the file is full; called once, in a thread."""
        _log.info("recording.started", path=str(self._path))
        try:
            with self._file:
                self._write_all()
            _log.info("recording.ended", lines=self.lines, dropped=self.dropped)
        except OSError as error:
            reason = f"can't write {self._path}: {error.strerror}"
            _log.warning("recording.failed", lines=self.lines, reason=reason)
            self._flush_by = 0
            self._queue = SimpleQueue()

    def _note(self, connection: Any, kind: str, text: Any = None, **more: Any) -> None:
        size = _NOTE_BYTES + len(text or "")
        if self._flush_by < float("inf"):
            return
        if self._queued_bytes - self._taken_bytes + size > self._most_waiting_bytes:
            self.dropped += 1
            return
        self._queued_bytes += size
        self._queue.put((size, self._line(kind, **connection, **more), text))

    def _line(self, kind: str, **members: Any) -> dict[str, Any]:
        line = {"at": round(self._clock() - self._start, 6), "kind": kind, **members}
        return line | {"dropped": self.dropped} if self.dropped else line

    def _write_all(self) -> None:
        values = asdict(self._settings)
        numbers = {n: one for n, one in values.items() if isinstance(one, int | float)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        start = {"started_at": now, "bridge": __version__, "settings": numbers}
        self._write({"at": 0.0, "kind": "started", "format": 2, **start})
        for size, line, text in iter(self._queue.get, None):
            self._taken_bytes += size
            if time.monotonic() > self._flush_by:
                self.dropped += 1
                continue
            self._write(line, text)
            self.lines += 1
            if self._queue.empty():
                self._file.flush()
        self._write(self._line("stopped"))

    def _write(self, line: dict[str, Any], text: str | bytes | None = None) -> None:
        try:
            data = _encode(line | self._content(text)).encode() + b"\n"
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            data = _encode(line | {"characters": len(text or "")}).encode() + b"\n"
        if self._file.tell() + len(data) > self._most_bytes:
            raise OSError(errno.EFBIG, f"the limit is {self._most_bytes} bytes")
        self._file.write(data)

    def _content(self, text: str | bytes | None) -> dict[str, Any]:
        if not isinstance(text, str):
            return {} if text is None else {"bytes": len(text)}
        frame = json.loads(text[:_MOST_CHARACTERS])
        masked = self._masked(frame)
        if isinstance(frame, dict) and isinstance(frame.get("data"), str):
            with suppress(ValueError):
                masked["data"] = _encode(self._masked(json.loads(frame["data"])))
        return {"frame": masked}

    def _masked(self, value: Any, name: str = "") -> Any:  # noqa: PLR0911
        if isinstance(value, dict):
            return {self._pseudonym(k): self._masked(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self._masked(one) for one in value]
        if type(value) in {int, float}:
            # Codes, timeouts and statuses have four digits at most.
            return round(value, 2) if name in _NUMBERS and 0 <= value < 10_000 else 0
        if not isinstance(value, str) or value in _VOCABULARY:
            return value
        if name == "progress" and _PERCENTAGE.fullmatch(value):
            return value
        if name == "channel" and value.startswith(_CHANNEL_PREFIX):
            return _CHANNEL_PREFIX + self._pseudonym(value[len(_CHANNEL_PREFIX) :])
        if name in _IDS:
            return self._pseudonym(value)
        return "x" * len(value) if len(value) <= 32 else f"x*{len(value)}"

    def _pseudonym(self, text: str) -> str:
        if text in _VOCABULARY:
            return text
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, key=self._key, digest_size=16)
        return str(uuid.UUID(bytes=digest.digest()))


def _opened(path: Path) -> int:
    """Open a file for its owner only; one that isn't a recording isn't changed."""
    # A link isn't followed, and a pipe without a reader isn't waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    status = os.fstat(file)
    head = os.pread(file, len(_BEGINNING), 0) if stat.S_ISREG(status.st_mode) else b"?"
    if not _BEGINNING.startswith(head):  # or a part of it, after a kill
        os.close(file)
        raise OSError(errno.EEXIST, "it exists and isn't a recording")
    os.fchmod(file, 0o600)
    if status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n":
        os.write(file, b"\n")
    return file
