"""
`bridge --record FILE`: what went over each WebSocket and when, without its content.

A session calls a `Note` at each step and never waits for it: notes are queued, and a
thread masks and writes them as lines of JSON. docs/recording.md describes the lines.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from bridge import __version__
from bridge.errors import ConfigError
from bridge.job_status import STATUSES, JobStatusRecord
from bridge.settings import PusherSettings


__all__ = ["Note", "Recorder"]

Note: TypeAlias = Callable[..., None]
"""`note(kind, *, text=None, **members)` returns at once and never raises."""

_BEGINNING: Final = b'{"at":0.0,"kind":"started",'
_NOTE_BYTES: Final = 400  # the memory of a queued note, besides its text
# A stop takes a second at most, and the last write needs some of it.
_FLUSH_SECONDS: Final = 0.7
# Masking a longer text could delay a stop: only its length is recorded.
_MOST_CHARACTERS: Final = 1024 * 1024
_LONGEST_RUN: Final = 32  # a longer mask is written as `x*40211`

# All names of members and all strings that are shown.
_VOCABULARY: Final = {
    *("activity_timeout", "auth", "channel", "channel_data", "code", "data", "error"),
    *("event", "message", "socket_id", "type", "user_id", "pending", *STATUSES),
    *("pusher:connection_established", "pusher:error", "pusher:ping", "pusher:pong"),
    *("pusher:subscribe", "pusher:subscription_error", "request.status.updated"),
    *("pusher_internal:subscription_succeeded", "AuthError", "LimitReached"),
    *("ServerError", *JobStatusRecord.__struct_fields__),
}
_IDS: Final = {"channel", "event", "request_id", "socket_id", "user_id"}
_NUMBERS: Final = {"activity_timeout", "code", "progress", "status"}
_LARGEST_NUMBER: Final = 9999  # codes, timeouts and statuses have four digits
_PERCENTAGE: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?")
_CHANNEL_PREFIX: Final = "private-client."

_encode: Final = partial(json.dumps, separators=(",", ":"))
_log = structlog.get_logger("bridge.pusher")


class Recorder:
    """
    The file of a recording, and the thread that calls `run`.

    Args:
        path: Where to write. A recording at this path is continued.
        settings: Those of the sessions; their numbers are recorded.
        clock: Monotonic, in seconds.
        most_bytes: The recording ends when its file would be larger: a forgotten one
            must not fill the disk that the outbox needs.
        most_waiting_bytes: How much may wait to be written.

    Attributes:
        lines: How many notes were written.
        dropped: How many were not, because too much waited.

    Raises:
        ConfigError: The file can't be opened, or isn't a recording.
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
        self._started_at = clock()
        self._most_bytes = most_bytes
        self._most_waiting_bytes = most_waiting_bytes
        self._key = secrets.token_bytes(32)  # of the pseudonyms; written nowhere
        self._queue: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        # Each is written by one thread at a time, so they need no lock.
        self._queued_bytes = self._taken_bytes = 0
        self._connections = self._missing = self.lines = self.dropped = 0
        self._flush_by = math.inf
        self._is_ending = False
        try:
            self._file = os.fdopen(_opened(path), "ab")
        except OSError as error:
            raise ConfigError(f"--record: {path}: {error.strerror}") from error

    def connection(self, client_id: str) -> Note:
        """Number a connection that is being dialed, and give its note."""
        self._connections += 1
        client = self._pseudonym(client_id)
        return partial(self._note, {"connection": self._connections, "client": client})

    def stop(self) -> None:
        """Have `run` write what waits and return, within a second."""
        self._is_ending = True
        self._flush_by = time.monotonic() + _FLUSH_SECONDS
        self._queue.put(None)

    def run(self) -> None:
        """Write until `stop` or until the file is full; called once, in a thread."""
        _log.info("recording.started", path=str(self._path))
        try:
            self._write_all()
            self._file.close()
            _log.info("recording.ended", lines=self.lines, dropped=self.dropped)
        except OSError as error:
            reason = f"can't write {self._path}: {error.strerror}"
            _log.warning("recording.failed", lines=self.lines, reason=reason)
        finally:
            self._is_ending = True
            self._queue = SimpleQueue()
            with suppress(OSError):
                self._file.close()

    def _note(
        self, connection: Any, kind: str, *, text: Any = None, **members: Any
    ) -> None:
        if self._is_ending:
            return
        size = _NOTE_BYTES + len(text or "")
        if self._queued_bytes - self._taken_bytes + size > self._most_waiting_bytes:
            self.dropped += 1
            self._missing += 1
            return
        if self._missing:
            self._queue.put((0, self._line("dropped", lines=self._missing), None))
            self._missing = 0
        self._queued_bytes += size
        self._queue.put((size, self._line(kind, **connection, **members), text))

    def _line(self, kind: str, **members: Any) -> dict[str, Any]:
        at = round(self._clock() - self._started_at, 6)
        return {"at": at, "kind": kind, **members}

    def _write_all(self) -> None:
        settings = msgspec.structs.asdict(self._settings).items()
        numbers = {name: n for name, n in settings if isinstance(n, int | float)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        more = {"format": 2, "bridge": __version__, "started_at": now}
        self._write({"at": 0.0, "kind": "started", **more, "settings": numbers})
        while (entry := self._queue.get()) is not None:
            size, line, text = entry
            self._taken_bytes += size
            if time.monotonic() > self._flush_by:
                self.dropped += 1
                self._missing += 1
                continue
            self._write(line, text)
            self.lines += 1
            if self._queue.empty():
                self._file.flush()
        if self._missing:
            self._write(self._line("dropped", lines=self._missing))
        self._write(self._line("stopped"))

    def _write(self, line: dict[str, Any], text: str | bytes | None = None) -> None:
        written = None
        if isinstance(text, bytes):
            line["bytes"] = len(text)
        elif text is not None:
            # What isn't JSON, or is nested too deeply to be masked, isn't shown.
            with suppress(ValueError, RecursionError):
                if len(text) <= _MOST_CHARACTERS:
                    written = _encode(line | {"frame": self._frame(text)})
            line["characters"] = len(text)
        data = (written or _encode(line)).encode() + b"\n"
        if self._file.tell() + len(data) > self._most_bytes:
            self._file.write(_encode(self._line("limit")).encode() + b"\n")
            raise OSError(errno.EFBIG, f"the limit is {self._most_bytes} bytes")
        self._file.write(data)

    def _frame(self, text: str) -> Any:
        frame = json.loads(text)
        masked = self._masked(frame)
        if isinstance(frame, dict) and isinstance(frame.get("data"), str):
            with suppress(ValueError):
                masked["data"] = _encode(self._masked(json.loads(frame["data"])))
        return masked

    def _masked(self, value: Any, name: str = "") -> Any:  # noqa: PLR0911
        if isinstance(value, dict):
            return {
                key if key in _VOCABULARY else self._pseudonym(key): self._masked(
                    v, key
                )
                for key, v in value.items()
            }
        if isinstance(value, list):
            return [self._masked(one) for one in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            is_shown = name in _NUMBERS and 0 <= value <= _LARGEST_NUMBER
            return round(value, 2) if is_shown else 0
        if not isinstance(value, str) or value in _VOCABULARY:
            return value
        if name == "progress" and _PERCENTAGE.fullmatch(value):
            return value
        if name in _IDS:
            is_ours = name == "channel" and value.startswith(_CHANNEL_PREFIX)
            prefix = _CHANNEL_PREFIX if is_ours else ""
            return prefix + self._pseudonym(value.removeprefix(prefix))
        return "x" * len(value) if len(value) <= _LONGEST_RUN else f"x*{len(value)}"

    def _pseudonym(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, key=self._key, digest_size=16).digest()
        return str(uuid.UUID(bytes=digest))


def _opened(path: Path) -> int:
    """Open a file for its owner only; one that isn't a recording isn't changed."""
    # A link isn't followed, and a pipe without a reader isn't waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    status = os.fstat(file)
    is_regular = stat.S_ISREG(status.st_mode)
    # It may be empty, or a killed process may have left half of its first line.
    beginning = os.pread(file, len(_BEGINNING), 0) if is_regular else None
    if beginning is None or not _BEGINNING.startswith(beginning):
        os.close(file)
        raise OSError(errno.EEXIST, "it exists and isn't a recording")
    os.fchmod(file, 0o600)
    if status.st_size and os.pread(file, 1, status.st_size - 1) != b"\n":
        os.write(file, b"\n")
    return file
