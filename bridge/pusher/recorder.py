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
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec
import structlog

from bridge import __version__
from bridge.errors import ConfigError
from bridge.job_status import STATUSES, JobStatusRecord
from bridge.settings import PusherSettings


__all__ = ["Note", "Recorder"]

Note: TypeAlias = Callable[..., None]
"""`note(kind, *, text=None, **members)` returns at once and never raises."""

_FORMAT: Final = 2
_BEGINNING: Final = b'{"at":0.0,"kind":"started",'
_NOTE_BYTES: Final = 400  # the memory of a queued note, besides its text
_BUFFER_BYTES: Final = 64 * 1024
# A stop takes a second at most, and the last write needs some of it.
_FLUSH_SECONDS: Final = 0.7
# Masking a longer text could delay a stop: only its length is recorded.
_MOST_CHARACTERS: Final = 1024 * 1024
_LONGEST_RUN: Final = 32  # a longer mask is written as `x*40211`

# The whole vocabulary that is shown: members' names, and strings.
_MEMBERS: Final = {
    *("activity_timeout", "auth", "channel", "channel_data", "code", "data", "error"),
    *("event", "message", "socket_id", "type", "user_id"),
    *JobStatusRecord.__struct_fields__,
}
_WORDS: Final = {
    *("pusher:connection_established", "pusher:error", "pusher:ping", "pusher:pong"),
    *("pusher:subscribe", "pusher:subscription_error", "request.status.updated"),
    *("pusher_internal:subscription_succeeded", "AuthError", "LimitReached"),
    *("ServerError", "pending", *STATUSES),
}
_IDS: Final = {"channel", "event", "request_id", "socket_id", "user_id"}
_NUMBERS: Final = {"activity_timeout", "code", "progress", "status"}
_LARGEST_NUMBER: Final = 9999  # codes, timeouts and statuses have four digits
_PERCENTAGE: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?")
_CHANNEL_PREFIX: Final = "private-client."
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SOCKET_ID: Final = re.compile(r"[0-9]+\.[0-9]+")

_encode: Final = partial(json.dumps, separators=(",", ":"))

_log = structlog.get_logger("bridge.pusher")


class Recorder:
    """
    The file of a recording, and the thread that calls `run`.

    Args:
        path: Where to write. A recording at this path is continued.
        settings: Those of the sessions; their numbers are recorded.
        clock: Monotonic, in seconds.
        most_bytes: The size of the file at which the recording ends: a forgotten one
            must not fill the disk that the outbox needs.
        most_waiting_bytes: How much may wait to be written.

    Attributes:
        lines: How many lines were written.
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
        # Each is written by one thread only, so they need no lock.
        self._queued_bytes = self._taken_bytes = 0
        self._connections = self._missing = self.lines = self.dropped = 0
        self._flush_by = math.inf
        self._is_ending = False
        try:
            self._file = _opened(path)
        except OSError as error:
            reason = f"can't write {path}: {error.strerror}"
            raise ConfigError(f"--record: {reason}") from error

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
        self,
        connection: dict[str, Any],
        kind: str,
        *,
        text: str | bytes | None = None,
        **members: Any,
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
        start = {
            "format": _FORMAT,
            "bridge": __version__,
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": {k: v for k, v in settings if isinstance(v, int | float)},
        }
        self._write({**self._line("started", **start), "at": 0.0})
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
        data = f"{self._with_text(line, text)}\n".encode()
        if self._file.tell() + len(data) > self._most_bytes:
            self._file.write(f"{_encode(self._line('limit'))}\n".encode())
            raise OSError(errno.EFBIG, f"the limit is {self._most_bytes} bytes")
        self._file.write(data)

    def _with_text(self, line: dict[str, Any], text: str | bytes | None) -> str:
        if isinstance(text, bytes):
            line["bytes"] = len(text)
        elif text is not None:
            # Neither what isn't JSON is shown, nor what nests too deeply to be masked.
            with suppress(ValueError, RecursionError):
                if len(text) <= _MOST_CHARACTERS:
                    return _encode(line | {"frame": self._frame(text)})
            line["characters"] = len(text)
        return _encode(line)

    def _frame(self, text: str) -> Any:
        frame = json.loads(text)
        masked = self._masked(frame)
        if isinstance(frame, dict) and isinstance(frame.get("data"), str):
            with suppress(ValueError):
                masked["data"] = _encode(self._masked(json.loads(frame["data"])))
        return masked

    def _masked(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {
                key if key in _MEMBERS else self._pseudonym(key): self._masked(one, key)
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self._masked(one) for one in value]
        if isinstance(value, str):
            return self._masked_text(value, name)
        if value is None or isinstance(value, bool):
            return value
        is_shown = name in _NUMBERS and 0 <= value <= _LARGEST_NUMBER
        return round(value, 2) if is_shown else 0

    def _masked_text(self, text: str, name: str) -> str:
        if text in _WORDS or (name == "progress" and _PERCENTAGE.fullmatch(text)):
            return text
        if name == "channel" and text.startswith(_CHANNEL_PREFIX):
            client_id = text.removeprefix(_CHANNEL_PREFIX)
            return _CHANNEL_PREFIX + self._pseudonym(client_id)
        if name in _IDS:
            return self._pseudonym(text)
        return "x" * len(text) if len(text) <= _LONGEST_RUN else f"x*{len(text)}"

    def _pseudonym(self, text: str) -> str:
        """Replace an id, always by the same; UUIDs and socket ids keep their form."""
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, key=self._key, digest_size=16).hexdigest()
        if _UUID.fullmatch(text):
            return str(uuid.UUID(digest))
        if _SOCKET_ID.fullmatch(text):
            return f"{int(digest[:8], 16)}.{int(digest[8:16], 16)}"
        return digest


def _opened(path: Path) -> BinaryIO:
    """Open a file for its owner only; one that isn't a recording isn't changed."""
    # A link isn't followed, and a pipe without a reader isn't waited for.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "ab", buffering=_BUFFER_BYTES)
    with file:
        ...
    return file
