"""What is recorded, what is not shown of it, and that nobody waits for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from bridge.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
)
from bridge.pusher import outgoing
from bridge.pusher.recording import Recorder
from bridge.pusher.websocket import Connection, Message
from tests.kit.scripted import CHANNEL
from tests.pusher.canary import CANARY, shows_canary
from tests.pusher.recorded import read


_URL = f"wss://{CANARY}.test/app/{CANARY}"


class _Scripted:
    """A connection that gives what a test wants, and ends as it wants."""

    def __init__(self, runs: list[list[Message]], end: ConnectionLostError) -> None:
        self._runs = runs
        self._end = end
        self.sent: list[str] = []
        self.aborted = False

    async def ready(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self._runs)

    def take_run(self) -> list[Message]:
        if not self._runs:
            raise self._end
        return self._runs.pop(0)

    async def receive_run(self) -> list[Message]:
        await self.ready()
        return self.take_run()

    async def send(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(text)

    async def aclose(self, code: int = 1000) -> None:
        """Not called by a session."""

    def abort(self) -> None:
        self.aborted = True


@asynccontextmanager
async def _running(recorder: Recorder) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, recorder.run)
        try:
            yield
        finally:
            recorder.stop()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _kinds(path: Path) -> list[str]:
    return [line["kind"] for line in _lines(path)]


async def test_a_connection_is_recorded_and_left_as_it_is(tmp_path: Path) -> None:
    """What is wrapped gives and raises the same; the file has all, and no content."""
    path = tmp_path / "wire.jsonl"
    job = json.dumps({"request_id": CANARY, "status": "done", "preview": CANARY * 9999})
    frame = json.dumps(
        {"event": "request.status.updated", "channel": CHANNEL, "data": job}
    )
    runs: list[list[Message]] = [[frame, CANARY.encode()], ["\ud83d" + CANARY]]
    end = ConnectionLostError(f"host closed the connection: '{CANARY}'", code=4200)
    scripted = _Scripted([list(run) for run in runs], end)

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Connection]:
        assert url == _URL
        yield scripted

    recorder = Recorder(path)
    dial = recorder.connect(connect, CANARY)
    async with _running(recorder), dial(_URL) as connection:
        assert await connection.receive_run() == runs[0]
        await connection.send(outgoing.subscribe(CHANNEL, f"key:{CANARY}"))
        assert await connection.receive_run() == runs[1]
        connection.abort()
        with pytest.raises(ConnectionLostError) as caught:
            await connection.receive_run()

    assert caught.value is end
    assert scripted.sent == [outgoing.subscribe(CHANNEL, f"key:{CANARY}")]
    assert scripted.aborted
    assert _kinds(path) == [
        *("started", "dialled", "opened", "received", "received", "sent", "received"),
        *("aborted", "ended", "closed", "stopped"),
    ]
    text = path.read_text()
    assert not shows_canary(text)
    assert len(text) < 5000
    (recorded,) = read(path).connections
    assert (recorded.scheme, recorded.code, recorded.aborted) == ("wss", 4200, True)
    assert [type(heard.message) for heard in recorded.heard] == [str, bytes, str]
    assert [len(heard.message) for heard in recorded.heard] == [
        len(message) for run in runs for message in run
    ]


async def test_an_end_is_recorded_once(tmp_path: Path) -> None:
    """Whether sending or reading finds it first; closing is passed on."""
    path = tmp_path / "wire.jsonl"
    end = ConnectionLostError("the connection to a.test:80 broke")

    class Lost(_Scripted):
        closed_with = 0

        async def send(self, text: str) -> None:
            await super().send(text)
            raise self._end

        async def aclose(self, code: int = 1000) -> None:
            self.closed_with = code

    lost = Lost([], end)

    @asynccontextmanager
    async def connect(_: str) -> AsyncIterator[Connection]:
        yield lost

    recorder = Recorder(path)
    async with _running(recorder), recorder.connect(connect, "42")(_URL) as connection:
        with pytest.raises(ConnectionLostError):
            await connection.send(outgoing.ping())
        with pytest.raises(ConnectionLostError):
            await connection.receive_run()
        await connection.aclose(4000)

    assert lost.closed_with == 4000
    assert _kinds(path)[2:] == ["opened", "sent", "ended", "closed", "stopped"]


async def test_what_fails_is_recorded_with_its_code(tmp_path: Path) -> None:
    """A refused upgrade and an endpoint without signature are raised as they were."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path)
    refusal = AuthorizationError(CANARY, status=503, retry_after_seconds=7.0)

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Connection]:
        if url == _URL:
            raise ConnectError(f"can't reach {CANARY}: Connection refused", status=502)
        yield _Scripted([], ConnectionLostError(""))

    class Endpoint:
        async def authorize(self, socket_id: str, channel: str) -> str:
            await trio.lowlevel.checkpoint()
            if socket_id == "1.1":
                raise refusal
            return f"{channel}:{CANARY}"

    authorizer = recorder.authorizer(Endpoint(), CANARY)
    async with _running(recorder):
        with pytest.raises(ConnectError):
            async with recorder.connect(connect, CANARY)(_URL):
                pass
        with pytest.raises(AuthorizationError) as caught:
            await authorizer.authorize("1.1", CHANNEL)
        assert await authorizer.authorize("1.2", CHANNEL) == f"{CHANNEL}:{CANARY}"

    assert caught.value is refusal
    assert not shows_canary(path.read_text())
    (recorded,) = read(path).connections
    assert recorded.opened_at is None
    assert recorded.code == 502
    first, second = recorded.signatures
    assert first.error is not None
    assert (first.error.status, first.error.retry_after_seconds) == (503, 7.0)
    assert second.error is None


def _note(recorder: Recorder, text: str) -> None:
    """Have a line queued as a connection does."""
    recorder._dial("42").note("received", message=text)


async def test_a_message_that_stays_long_loses_its_middle(tmp_path: Path) -> None:
    """What no run shortens is cut, and is put together at its full length."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path)
    text = json.dumps([[number, "ab"] for number in range(100_000)])
    async with _running(recorder):
        _note(recorder, text)

    assert path.stat().st_size < 20_000
    line = _lines(path)[1]
    assert sum(part[1] for part in line["text"] if isinstance(part, list)) > 1_000_000
    assert "".join(
        part if isinstance(part, str) else part[0] * part[1] for part in line["text"]
    ).startswith('[[0, "xx"], [1, "xx"]')


def test_what_the_queue_cannot_hold_is_dropped_and_counted(tmp_path: Path) -> None:
    """While nothing can be written a session is not kept; the file tells how many."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_waiting_bytes=10_000)
    for _ in range(100):
        _note(recorder, "x" * 1000)
    assert 80 < recorder.dropped < 100
    before, recorder._waiting_bytes = recorder._waiting_bytes, 0
    _note(recorder, "y")
    recorder._waiting_bytes += before

    recorder.stop()
    recorder.run()

    kinds = _kinds(path)
    assert kinds[-3:] == ["dropped", "received", "stopped"]
    (dropped,) = (line["lines"] for line in _lines(path) if line["kind"] == "dropped")
    assert dropped == recorder.dropped == 101 - kinds.count("received")


def test_a_full_disk_ends_the_recording_alone() -> None:
    """It is told once; what comes later is taken and forgotten."""
    recorder = Recorder(Path("/dev/full"))
    with structlog.testing.capture_logs() as logs:
        recorder.run()
    _note(recorder, "x")

    assert [log["event"] for log in logs] == ["recording.started", "recording.failed"]
    assert "No space left on device" in logs[1]["reason"]
    assert not recorder._waiting


def test_a_recording_ends_at_its_limit(tmp_path: Path) -> None:
    """The file doesn't grow beyond it, and says why it ends."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_bytes=20_000)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    for number in range(1000):
        _note(recorder, f"{number}" + "a b" * 30)
        time.sleep(0.0002)
    thread.join(5)

    assert not thread.is_alive()
    assert path.stat().st_size < 20_200
    assert _kinds(path)[-1] == "limit"


def test_a_stop_writes_what_waits_within_a_second(tmp_path: Path) -> None:
    """What can't be redacted in that time is counted instead."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_waiting_bytes=100_000_000)
    text = json.dumps([f"{number}" for number in range(5000)])
    for _ in range(2000):
        _note(recorder, text)
    thread = threading.Thread(target=recorder.run)
    thread.start()
    time.sleep(0.05)
    started_at = time.monotonic()
    recorder.stop()
    thread.join(5)

    assert time.monotonic() - started_at < 1.5
    assert _kinds(path)[-2:] == ["dropped", "stopped"]
    assert recorder.lines + recorder.dropped == 2000


async def test_a_file_is_continued_behind_half_a_line(tmp_path: Path) -> None:
    """What an earlier run wrote stays, even if it was killed while writing."""
    path = tmp_path / "wire.jsonl"
    path.write_text('{"at":0.0,"ki')
    recorder = Recorder(path)
    async with _running(recorder):
        _note(recorder, "x")

    first, *rest = path.read_text().splitlines()
    assert first == '{"at":0.0,"ki'
    assert [json.loads(line)["kind"] for line in rest] == [
        *("started", "received", "stopped")
    ]


def test_a_new_file_is_for_its_owner(tmp_path: Path) -> None:
    """Nobody else reads it."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path)
    recorder.stop()
    recorder.run()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    """Before anything starts, with the option's name and the reason."""
    with pytest.raises(ConfigError, match=r"--record: can't write .*: Is a directory"):
        Recorder(tmp_path)


async def test_times_are_those_of_the_connection(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Each line has the seconds since the recording began."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, clock=trio.current_time)
    _note(recorder, "x")
    await trio.sleep(60)
    _note(recorder, "x")
    recorder.stop()
    recorder.run()
    assert [line["at"] for line in _lines(path)[1:3]] == [
        pytest.approx(0, abs=1),
        pytest.approx(60, abs=1),
    ]
