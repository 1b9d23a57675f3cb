"""What a recording holds, what it never shows, and that no session waits for it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from bridge.errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
)
from bridge.pusher import outgoing
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.pusher.recorded_lines import Entry
from bridge.pusher.recording import Recorder
from bridge.pusher.redaction import Redactor
from bridge.pusher.websocket import Connection, Message
from tests.kit.scripted import CHANNEL
from tests.pusher.replaying import lines_of, replayed, text_of
from tests.rules.intake import Outlet


CANARY = "sEcret4Canary9"
NUMBER = 9_315_722_860

_URL = f"wss://{CANARY}.test/app/{CANARY}"
_RECORDINGS = sorted(Path(__file__).with_name("recordings").glob("*.jsonl"))


def _shows_canary(text: str) -> bool:
    """Look for either, as it is or in JSON's escapes, in escapes of escapes too."""
    for _ in range(6):
        if "canary" in text.lower() or str(NUMBER) in text:
            return True
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
        text = text.replace("\\\\", "\\")
    return False


# -- What goes into the file --------------------------------------------------------


class _Scripted:
    """A connection that gives what a test wants, and ends as it wants."""

    def __init__(self, runs: list[list[Message]], end: ConnectionLostError) -> None:
        self._runs = runs
        self._end = end
        self.calls: list[object] = []

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
        self.calls.append(text)

    async def aclose(self, code: int = 1000) -> None:
        self.calls.append(code)

    def abort(self) -> None:
        self.calls.append("abort")


@asynccontextmanager
async def _running(recorder: Recorder) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, recorder.run)
        try:
            yield
        finally:
            recorder.stop()


def _kinds(path: Path) -> list[str]:
    return [line["kind"] for line in lines_of(path)]


async def test_a_connection_is_recorded_and_left_as_it_is(tmp_path: Path) -> None:
    """What is wrapped gives and raises the same; the file has all, and no content."""
    path = tmp_path / "wire.jsonl"
    job = json.dumps({"request_id": CANARY, "status": "done", "preview": CANARY * 9999})
    event = {"event": "request.status.updated", "channel": CHANNEL, "data": job}
    runs: list[list[Message]] = [
        [json.dumps(event), CANARY.encode()],
        ["\ud83d" + CANARY],
    ]
    end = ConnectionLostError(f"host closed the connection: '{CANARY}'", code=4200)
    scripted = _Scripted([list(run) for run in runs], end)
    refusal = AuthorizationError(CANARY, status=503, retry_after_seconds=7.0)

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Connection]:
        if url != _URL:
            raise ConnectError(f"can't reach {CANARY}: Connection refused", status=502)
        yield scripted

    class Endpoint:
        async def authorize(self, socket_id: str, channel: str) -> str:
            await trio.lowlevel.checkpoint()
            if socket_id == "1.1":
                raise refusal
            return f"{channel}:{CANARY}"

    recorder = Recorder(path)
    dial = recorder.connect(connect, CANARY)
    authorizer = recorder.authorizer(Endpoint(), CANARY)
    subscription = outgoing.subscribe(CHANNEL, f"key:{CANARY}")
    async with _running(recorder):
        async with dial(_URL) as connection:
            assert await connection.receive_run() == runs[0]
            with pytest.raises(AuthorizationError) as not_authorized:
                await authorizer.authorize("1.1", CHANNEL)
            assert not_authorized.value is refusal
            assert await authorizer.authorize("1.2", CHANNEL) == f"{CHANNEL}:{CANARY}"
            await connection.send(subscription)
            assert await connection.receive_run() == runs[1]
            connection.abort()
            # An end is recorded once, however often it is found.
            for _ in range(2):
                with pytest.raises(ConnectionLostError) as lost:
                    await connection.receive_run()
                assert lost.value is end
            await connection.aclose(4000)
        with pytest.raises(ConnectError):
            async with dial(f"wss://{CANARY}.test/"):
                pass

    assert scripted.calls == [subscription, "abort", 4000]
    assert _kinds(path) == [
        *("started", "dialled", "opened", "received", "received", "authorizing"),
        *("not_authorized", "authorizing", "authorized", "sent", "received"),
        *("aborted", "ended", "closed", "dialled", "ended", "closed", "stopped"),
    ]
    assert not _shows_canary(path.read_text())
    assert path.stat().st_size < 5000
    assert path.stat().st_mode & 0o777 == 0o600
    ends = [line["code"] for line in lines_of(path) if line["kind"] == "ended"]
    assert ends == [4200, 502]
    (refused,) = (one for one in lines_of(path) if one["kind"] == "not_authorized")
    assert (refused["status"], refused["retry_after_seconds"]) == (503, 7.0)


async def test_times_are_seconds_since_the_start(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Of the event, not of its being written."""
    recorder = Recorder(tmp_path / "wire.jsonl", clock=trio.current_time)
    for _ in range(2):
        recorder.note(Entry(recorder.now(), "opened"))
        await trio.sleep(60)
    recorder.stop()
    recorder.run()
    times = [line["at"] for line in lines_of(tmp_path / "wire.jsonl")[1:3]]
    assert times == [pytest.approx(0, abs=1), pytest.approx(60, abs=1)]


# -- Bounds --------------------------------------------------------------------------


def _entry(text: str) -> Entry:
    return Entry(1.0, "received", 1, "42", text)


def test_what_the_queue_cannot_hold_is_dropped_and_counted(tmp_path: Path) -> None:
    """A session never waits; the file says how many lines are missing."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_waiting_bytes=10_000)
    for _ in range(100):
        recorder.note(_entry("x" * 1000))
    recorder.stop()
    recorder.run()
    assert 80 < recorder.dropped < 100
    assert _kinds(path)[-2:] == ["dropped", "stopped"]
    (dropped,) = (line for line in lines_of(path) if line["kind"] == "dropped")
    received = _kinds(path).count("received")
    assert dropped["lines"] == recorder.dropped == 100 - received


def test_a_stop_does_not_wait_for_all_that_is_queued(tmp_path: Path) -> None:
    """What can't be redacted within a second (here 20 s of work) is counted instead."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_waiting_bytes=100_000_000)
    text = json.dumps([f"{number}" for number in range(5000)])
    for _ in range(2000):
        recorder.note(_entry(text))
    recorder.stop()
    thread = threading.Thread(target=recorder.run)
    thread.start()
    thread.join(8)
    assert not thread.is_alive()
    assert _kinds(path)[-2:] == ["dropped", "stopped"]
    assert recorder.lines + recorder.dropped == 2000


def test_a_recording_ends_at_its_limit(tmp_path: Path) -> None:
    """The file says why it ends, and so does the log."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_bytes=20_000)
    for number in range(1000):
        recorder.note(_entry(f"{number}" + "a b" * 30))
    recorder.stop()
    with structlog.testing.capture_logs() as logs:
        recorder.run()
    assert path.stat().st_size < 20_200
    assert _kinds(path)[-1] == "limit"
    assert [log["event"] for log in logs] == ["recording.started", "recording.failed"]


def test_a_full_disk_ends_only_the_recording() -> None:
    """It is logged once; what comes later is ignored."""
    recorder = Recorder(Path("/dev/full"))
    with structlog.testing.capture_logs() as logs:
        recorder.run()
    recorder.note(_entry("x"))
    assert [log["event"] for log in logs] == ["recording.started", "recording.failed"]
    assert "No space left on device" in logs[1]["reason"]


def test_a_long_message_loses_its_middle(tmp_path: Path) -> None:
    """A megabyte without a run of one letter takes no megabyte of the file."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path)
    recorder.note(_entry(json.dumps([[number, "ab"] for number in range(100_000)])))
    recorder.stop()
    recorder.run()
    assert path.stat().st_size < 20_000
    assert text_of(lines_of(path)[1]).startswith('[[0, "xx"], [1, "xx"]')


def test_a_file_is_continued_or_refused(tmp_path: Path) -> None:
    """Behind half a line of a killed process; a folder is a wrong setting."""
    path = tmp_path / "wire.jsonl"
    path.write_text('{"at":0.0,"ki')
    recorder = Recorder(path)
    recorder.stop()
    recorder.run()
    first, *rest = path.read_text().splitlines()
    assert first == '{"at":0.0,"ki'
    assert [json.loads(line)["kind"] for line in rest] == ["started", "stopped"]
    with pytest.raises(ConfigError, match=r"--record: can't write .*: Is a directory"):
        Recorder(tmp_path)


# -- What it never shows -------------------------------------------------------------

_SECRETS = st.sampled_from(
    [
        *(CANARY, str(NUMBER), f"{CANARY}-1", f"private-client.{CANARY}", f'{CANARY}"'),
        *(f"https://h/{CANARY}?s=1", f'{{"{CANARY}":"{CANARY}', f"data:i;{CANARY}/+=="),
        *(f"ü{CANARY}日本", f"\ud83d{CANARY}😀", f"\x00{CANARY}", f"\\{CANARY}\n"),
    ]
)
_WORDS = st.sampled_from(
    [
        "done",
        "pending",
        "request.status.updated",
        "pusher:error",
        "45.50",
        "",
        "ü日\ud83d",
    ]
)
_NAMES = st.sampled_from(
    [
        *("request_id", "status", "preview", "result_url", "progress", "event", "code"),
        *(
            "channel",
            "data",
            "message",
            "socket_id",
            "activity_timeout",
            "auth",
            CANARY,
        ),
    ]
)
_VALUES = st.recursive(
    _SECRETS | _WORDS | st.sampled_from([None, True, NUMBER, 7, 45.5, 4200, -1]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_NAMES, inner, max_size=5)
        | st.builds(json.dumps, inner, ensure_ascii=st.booleans())
    ),
    max_leaves=12,
)
_PAYLOADS = st.builds(
    lambda members, more: json.dumps({**members, **more}),
    st.fixed_dictionaries(
        {
            "request_id": _SECRETS,
            "status": st.sampled_from(["in_progress", "done", "pending", CANARY]),
        },
        optional={
            "preview": st.sampled_from([None, f"data:image/jpeg;base64,{CANARY}/9j4="]),
            "result_url": st.sampled_from(
                [None, f"https://{CANARY}.test/a?s={CANARY}"]
            ),
            "progress": st.sampled_from(
                [None, "45.50", "100", 7, 45.5, "x", NUMBER, -1]
            ),
            "error_message": st.sampled_from([None, CANARY]),
        },
    ),
    st.dictionaries(_NAMES, _VALUES, max_size=1),
)


def _escaped(text: str) -> str:
    """Write each character of a JSON text's strings as an escape: the same JSON."""
    return re.sub(
        r'"([^"\\]*)"',
        lambda m: '"' + "".join(f"\\u{ord(c) & 0xFFFF:04x}" for c in m[1]) + '"',
        text,
    )


def _frame(data: object) -> str:
    event = {"event": "request.status.updated", "channel": CHANNEL, "data": data}
    return json.dumps(event)


def _what_becomes_of(message: str) -> Any:
    """Give the way of a message: status and changes, or why it is a dead letter."""
    event = decode(message)
    if not isinstance(event, ChannelEvent):
        return type(event)
    [record] = Outlet().take(event)
    headers = dict(record.extra)
    shown = headers.get("bridge_normalized"), headers.get("bridge_reason")
    return record.topic, record.status, shown, record.importance


@given(
    st.one_of(
        _VALUES.map(json.dumps),
        _VALUES.map(json.dumps).map(_escaped),
        _PAYLOADS.map(_frame),
        _VALUES.map(_frame),
        st.lists(_SECRETS | st.text()).map("".join),
    ),
    st.just(0) | st.integers(0, 200),
)
@settings(max_examples=500)
def test_no_message_shows_anything_private(message: str, cut: int) -> None:
    """Whatever it is, whole or cut off, and whatever an error says about it."""
    redactor = Redactor()
    shown = redactor.message(message[: len(message) - cut])
    assert not _shows_canary(shown)
    assert not _shows_canary(redactor.sentence(message))


@given(_PAYLOADS)
@settings(max_examples=300)
def test_a_masked_event_becomes_what_the_event_became(payload: str) -> None:
    """So a recording without content can be replayed."""
    for message in (_frame(payload), _frame(_escaped(payload)), _frame([payload])):
        assert _what_becomes_of(Redactor().message(message)) == (
            _what_becomes_of(message)
        )


def test_what_is_kept_is_a_closed_vocabulary() -> None:
    """Words and small numbers of the protocol, in their own places."""
    table = [
        *(
            (text, text)
            for text in (
                '{"event":"pusher:error","data":{"code":4200,"message":null}}',
                '{"event":"pusher:ping","data":{}}',
                '{"data":"{\\"activity_timeout\\":30.5,\\"status\\": 401}"}',
                '{"status":"in_progress","progress":"45.50","preview":null}',
                '{"status":"error","progress":100}',
                "[true, false, null, {}]",
            )
        ),
        ('{"code":[4200,12345]}', '{"code":[1100,11111]}'),
        ('{"code":123456}', '{"code":111111}'),
        ('{"message":"Go away, Bob!"}', '{"message":"xx xxxx, xxx!"}'),
        ('{"progress":"5551234"}', '{"progress":"0000000"}'),
        ('{"preview":"data:a/b+c=="}', '{"preview":"xxxxxxxxxxxx"}'),
        ('{"data":"null and void 12"}', '{"data":"null xxx xxxx 11"}'),
        ('{"auth":"key:0a1b"}', '{"auth":"xxxxxxxx"}'),
    ]
    found = [(text, Redactor().message(text)) for text, _ in table]
    assert found == table
    sentence = f"{CANARY}.test:443 closed the connection: 'Go, {CANARY}!'"
    assert " closed the connection: 'xx, " in Redactor().sentence(sentence)


def test_a_job_can_be_followed_within_one_recording() -> None:
    """The same id gives the same pseudonym, another one another; so do recordings."""
    job = "123e4567-e89b-12d3-a456-426614174000"
    redactor = Redactor()
    pseudonym = redactor.pseudonym(job)
    assert redactor.pseudonym(job) == pseudonym != job
    assert redactor.message(f'{{"request_id":"{job}"}}') == (
        f'{{"request_id":"{pseudonym}"}}'
    )
    assert redactor.message(f'{{"channel":"private-client.{job}"}}') == (
        f'{{"channel":"private-client.{pseudonym}"}}'
    )
    assert len({redactor.pseudonym(str(number)) for number in range(9)}) == 9
    assert Redactor().pseudonym(job) != pseudonym


# -- Replays -------------------------------------------------------------------------


def test_recordings_give_what_is_expected_of_them() -> None:
    """Of a real soketi: restarted, killed, frozen, and with odd payloads."""
    assert _RECORDINGS
    wrong = []
    for path in _RECORDINGS:
        expected = json.loads(path.with_suffix(".expected.json").read_text())
        again = replayed(path)
        if (again.summary(), again.unplayed) != (expected, 0):
            wrong.append((path.name, again.summary(), again.unplayed))
    assert not wrong
