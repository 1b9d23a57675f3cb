"""
A recording of the wire: what went over each WebSocket and when, as lines of JSON.

`Recorder` owns the file and wraps what a session dials and asks with, so that nothing
else knows of a recording. What may be shown is `redaction`'s business, playing one back
the tests'; docs/recording.md describes the lines.

A session never waits for a recording. It leaves what it saw in a queue that is bounded
by bytes; redacting and writing are a thread's work. What the queue can't hold is
dropped and counted in the file. A full disk ends the recording, never the bridge.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from bridge.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
)
from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.recorded_lines import Content, Entry, first_line, line, weight_of
from bridge.pusher.redaction import Redactor
from bridge.pusher.websocket import Connect, Connection, Message
from bridge.settings import PusherSettings


__all__ = ["Recorder"]

# As large as the buffer before the outbox: minutes of a usual account's events, and
# no more memory than a user has been told of.
_MOST_WAITING_BYTES: Final = 16 * 1024 * 1024

# A recording that somebody forgot must not fill the disk that the outbox needs.
_MOST_BYTES: Final = 1024 * 1024 * 1024

# What gathers is written at once: a write takes microseconds, however little it is.
_BATCH_BYTES: Final = 64 * 1024

# A stop takes a second at most, and the last write needs some of it.
_FLUSH_SECONDS: Final = 0.7

_log = structlog.get_logger("bridge.pusher")


class Recorder:
    """
    The file and its thread, which calls `run`.

    Args:
        path: Where to write; what stands there already stays, and the file is made
            readable for its owner alone.
        settings: Of the sessions, the default ones unless given; their numbers are
            noted for the replay.
        clock: Monotonic, in seconds.
        most_bytes: The size of the file at which a recording ends.
        most_waiting_bytes: What may wait to be written.

    Attributes:
        lines: How many have been written.
        dropped: How many were not, because too much waited.

    Raises:
        ConfigError: The file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: PusherSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        most_bytes: int = _MOST_BYTES,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
    ) -> None:
        self._path = path
        self._settings = settings or PusherSettings()
        self._clock = clock
        self._started_at = clock()
        self._most_bytes = most_bytes
        self._most_waiting_bytes = most_waiting_bytes
        self._redactor = Redactor()
        # Shared with the sessions' thread; everything else is `run`'s alone.
        self._condition = threading.Condition()
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._untold = 0
        self._stopping = False
        self._flush_by = math.inf
        self._connections = 0
        self._connection_of: dict[str, int] = {}
        self.lines = 0
        self.dropped = 0
        self._file, self._size = _opened(path)

    # -- The sessions' side ---------------------------------------------------

    def connect(self, connect: Connect, client_id: str) -> Connect:
        """
        Make the connections of one account known to the recording.

        Args:
            connect: Opens a WebSocket.
            client_id: The account.

        Returns:
            What opens the same WebSockets, and records them.
        """

        @asynccontextmanager
        async def recorded(url: str) -> AsyncIterator[Connection]:
            wire = self._dial(client_id)
            wire.note("dialled", scheme=url.partition(":")[0])
            try:
                async with connect(url) as connection:
                    wire.note("opened")
                    yield _RecordedConnection(connection, wire)
            except ConnectError as error:
                wire.note_end(error, error.status)
                raise
            finally:
                wire.note("closed")

        return recorded

    def authorizer(
        self, authorizer: ChannelAuthorizer, client_id: str
    ) -> ChannelAuthorizer:
        """
        Make the signatures of one account known to the recording, by their outcome.

        Args:
            authorizer: Gets signatures.
            client_id: The account.

        Returns:
            What gets the same signatures.
        """
        return _RecordedAuthorizer(
            authorizer,
            lambda: _Wire(self, self._connection_of.get(client_id, 0), client_id),
        )

    def note(self, entry: Entry) -> None:
        """Queue a line, or count it as dropped; returns at once."""
        weight = weight_of(entry)
        with self._condition:
            if self._stopping:
                return
            if self._waiting_bytes + weight > self._most_waiting_bytes:
                self._untold += 1
                self.dropped += 1
                return
            if self._untold:
                told = self._told()
                self._waiting.append(told)
                self._waiting_bytes += weight_of(told)
            self._waiting.append(entry)
            self._waiting_bytes += weight
            self._condition.notify()

    def now(self) -> float:
        """Give the seconds since the recording began."""
        return self._clock() - self._started_at

    def stop(self) -> None:
        """Tell `run` to write what waits and return, within a second."""
        with self._condition:
            self._stopping = True
            self._flush_by = time.monotonic() + _FLUSH_SECONDS
            self._condition.notify()

    def _dial(self, client_id: str) -> _Wire:
        self._connections += 1
        self._connection_of[client_id] = self._connections
        return _Wire(self, self._connections, client_id)

    def _told(self) -> Entry:
        """Make the line that stands for all that was dropped just before it."""
        lines, self._untold = self._untold, 0
        return Entry(self.now(), "dropped", members={"lines": lines})

    # -- The thread's side ----------------------------------------------------

    def run(self) -> None:
        """
        Write until `stop`, or until the file takes no more.

        It is called once, from a thread of its own, and doesn't raise what a disk can
        cause.
        """
        _log.info("recording.started", path=str(self._path))
        problem = None
        try:
            self._write(first_line(self._settings))
            while self._work():
                pass
            self._finish()
        except _FullError:
            problem = f"{self._path} has {self._size} bytes, which is the limit"
        except OSError as error:
            problem = f"can't write {self._path}: {os.strerror(error.errno or 0)}"
        finally:
            with self._condition:
                self._stopping = True
                self._waiting.clear()
            os.close(self._file)
        if problem is None:
            _log.info("recording.ended", lines=self.lines, dropped=self.dropped)
        else:
            _log.warning("recording.failed", lines=self.lines, reason=problem)

    def _work(self) -> bool:
        """Write what waits; False when nothing more is to be written."""
        with self._condition:
            # No deadline: `stop` notifies too.
            while not self._waiting and not self._stopping:
                self._condition.wait()
        batch = bytearray()
        lines = 0
        while len(batch) < _BATCH_BYTES and (entry := self._take()) is not None:
            batch += line(entry, self._redactor)
            lines += 1
        self._write(batch)
        self.lines += lines
        return lines > 0

    def _take(self) -> Entry | None:
        with self._condition:
            is_late = self._stopping and time.monotonic() > self._flush_by
            if is_late or not self._waiting:
                return None
            entry = self._waiting.popleft()
            self._waiting_bytes -= weight_of(entry)
            return entry

    def _finish(self) -> None:
        """Say that it ended on purpose, and what was left out for that."""
        self._untold += len(self._waiting)
        self.dropped += len(self._waiting)
        end = Entry(self.now(), "stopped")
        entries = [self._told(), end] if self._untold else [end]
        self._write(b"".join(line(entry, self._redactor) for entry in entries))

    def _write(self, data: bytes | bytearray) -> None:
        if self._size + len(data) > self._most_bytes:
            limit = Entry(self.now(), "limit")
            self._put(line(limit, self._redactor))
            raise _FullError
        self._put(data)

    def _put(self, data: bytes | bytearray) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self._size += written
            rest = rest[written:]


class _FullError(Exception):
    """The file has reached its limit."""


class _Wire:
    """One connection's lines."""

    def __init__(self, recorder: Recorder, connection: int, client_id: str) -> None:
        self._recorder = recorder
        self._connection = connection
        self._client_id = client_id
        self._has_ended = False

    def note(
        self,
        kind: str,
        *,
        message: Message | None = None,
        sentence: str | None = None,
        **members: Content,
    ) -> None:
        """Queue a line."""
        self._recorder.note(
            Entry(
                self._recorder.now(),
                kind,
                self._connection,
                self._client_id,
                message,
                sentence,
                members,
            )
        )

    def note_end(self, error: Exception, code: int | None) -> None:
        """Queue the line of an end, once for each connection."""
        if not self._has_ended:
            self._has_ended = True
            name = type(error).__name__
            self.note("ended", sentence=str(error), error=name, code=code)


class _RecordedConnection:
    """`Connection` that notes what goes over another one."""

    def __init__(self, connection: Connection, wire: _Wire) -> None:
        self._connection = connection
        self._wire = wire

    async def ready(self) -> int:
        return await self._connection.ready()

    def take_run(self) -> list[Message]:
        try:
            run = self._connection.take_run()
        except ConnectionLostError as error:
            self._wire.note_end(error, error.code)
            raise
        for message in run:
            self._wire.note("received", message=message)
        return run

    async def receive_run(self) -> list[Message]:
        await self.ready()
        return self.take_run()

    async def send(self, text: str) -> None:
        # Before it goes out: its answer must stand behind it.
        self._wire.note("sent", message=text)
        try:
            await self._connection.send(text)
        except ConnectionLostError as error:
            self._wire.note_end(error, error.code)
            raise

    async def aclose(self, code: int = 1000) -> None:
        await self._connection.aclose(code)

    def abort(self) -> None:
        self._wire.note("aborted")
        self._connection.abort()


class _RecordedAuthorizer:
    """`ChannelAuthorizer` that notes what becomes of the requests to another one."""

    def __init__(
        self, authorizer: ChannelAuthorizer, wire: Callable[[], _Wire]
    ) -> None:
        self._authorizer = authorizer
        self._wire = wire

    async def authorize(self, socket_id: str, channel: str) -> str:
        wire = self._wire()
        wire.note("authorizing")
        try:
            auth = await self._authorizer.authorize(socket_id, channel)
        except AuthorizationError as error:
            wire.note(
                "not_authorized",
                sentence=str(error),
                status=error.status,
                retry_after_seconds=error.retry_after_seconds,
                terminal=error.terminal,
            )
            raise
        wire.note("authorized")
        return auth


def _opened(path: Path) -> tuple[int, int]:
    """Open a file to write at its end, which is made the beginning of a line."""
    # Not blocking: a pipe that nobody reads is an error, not a reason to wait.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.open(path, flags, 0o600)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            # A process that was killed left half a line.
            size += os.write(file, b"\n")
    except OSError as error:
        raise ConfigError(f"--record: can't write {path}: {error.strerror}") from error
    return file, size
