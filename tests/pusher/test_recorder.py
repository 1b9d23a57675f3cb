"""What a recording holds, what it never shows, and that no session waits for it."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.pusher.recorder import Recorder
from tests.kit.scripted import CHANNEL
from tests.pusher.replaying import lines_of, replayed


CANARY = "sEcret4Canary9"
NUMBER = 9_315_722_860
_JOB = "123e4567-e89b-12d3-a456-426614174000"


def _recorded(*texts: str | bytes, client_id: str = "42") -> str:
    """Record received messages, and give the file."""
    with TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder, "wire.jsonl"))
        note = recorder.connection(client_id)
        for text in texts:
            note("received", text=text)
        recorder.stop()
        recorder.run()
        return Path(folder, "wire.jsonl").read_text("ascii")


def _frames(*texts: str) -> list[Any]:
    lines = [json.loads(line) for line in _recorded(*texts).splitlines()]
    return [line["frame"] for line in lines if line["kind"] == "received"]


def test_a_connection_is_recorded_by_its_steps(tmp_path: Path) -> None:
    """Times, numbers and pseudonyms of connections, and what the notes were given."""
    path = tmp_path / "wire.jsonl"
    now = 100.0
    recorder = Recorder(path, clock=lambda: now)
    first, second = recorder.connection("42"), recorder.connection("42")
    first("dialed", scheme="wss")
    now = 160.5
    first("ended", error="AuthorizationError", code=503)
    second("received", text=b"binary")
    second("sent", text="not JSON")
    second("received", text="[" * 100_000 + "]" * 100_000)
    second("ended", error="ConnectionLostError", code=4200)
    recorder.stop()
    first("closed")
    recorder.run()
    start, *steps, end = lines_of(path)
    assert (start["format"], start["settings"]["timeout_seconds"]) == (2, 10.0)
    assert len({step.pop("client") for step in steps}) == 1
    late = {"at": 60.5, "connection": 2}
    failure = {"error": "AuthorizationError", "code": 503}
    assert steps == [
        {"at": 0.0, "kind": "dialed", "connection": 1, "scheme": "wss"},
        {"at": 60.5, "kind": "ended", "connection": 1, **failure},
        {**late, "kind": "received", "bytes": 6},
        {**late, "kind": "sent", "characters": 8},
        {**late, "kind": "received", "characters": 200_000},
        {**late, "kind": "ended", "error": "ConnectionLostError", "code": 4200},
    ]
    assert end == {"at": 60.5, "kind": "stopped"}
    assert (recorder.lines, recorder.dropped) == (6, 0)


def test_what_is_shown_is_a_closed_vocabulary() -> None:
    """Words and small numbers of the protocol; runs are short, `data` is JSON again."""
    data = {"status": "done", "progress": "45.50", "preview": "a" * 90_000, "error": 7}
    masked = '{"status":"done","progress":"45.50","preview":"x*90000","error":0}'
    kept: list[Any] = [
        {"event": "pusher:error", "data": {"code": 4200, "message": None}},
        {"status": "in_progress", "progress": 45.5, "activity_timeout": 30},
        [True, False, None, {}, "", 0],
    ]
    table = [
        *((frame, frame) for frame in kept),
        ({"code": 12_345, "status": [400, -1]}, {"code": 0, "status": [0, 0]}),
        ({"auth": "a:b", "progress": "5551"}, {"auth": "xxx", "progress": "xxxx"}),
        ({"data": "null and 12"}, {"data": "xxxxxxxxxxx"}),
        ({"data": json.dumps(data)}, {"data": masked}),
    ]
    shown = _frames(*(json.dumps(frame) for frame, _ in table))
    assert shown == [expected for _, expected in table]


def test_a_job_can_be_followed_within_one_recording() -> None:
    """The same id gives the same pseudonym, another one another; so do recordings."""
    job = json.dumps({"request_id": _JOB})
    texts = [job, json.dumps({"data": job}), json.dumps({"request_id": "b", _JOB: 1})]
    first, second, third = _frames(*texts)
    pseudonym = first["request_id"]
    assert json.loads(second["data"])["request_id"] == pseudonym != _JOB
    assert len(pseudonym) == len(_JOB)
    assert third["request_id"] not in {pseudonym, "b"}
    assert third[pseudonym] == 0
    assert _frames(job)[0]["request_id"] != pseudonym
    line = json.loads(_recorded(json.dumps({"channel": CHANNEL})).splitlines()[1])
    assert line["frame"]["channel"] == f"private-client.{line['client']}"


_SECRETS = st.sampled_from(
    (CANARY, str(NUMBER), f"private-client.{CANARY}", f'{{"{CANARY}":"{CANARY}')
) | st.sampled_from((f"ü{CANARY}日本", f"\ud83d{CANARY}", f"\\{CANARY}\n", "a\x00b"))
_NAMES = st.sampled_from(
    "request_id status preview progress event code channel data message socket_id "
    f"activity_timeout auth {CANARY} {NUMBER}".split()
)
_VALUES = st.recursive(
    _SECRETS | st.sampled_from([None, True, NUMBER, NUMBER + 0.5, 7, 4200, "done"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_NAMES, inner, max_size=5)
        | st.builds(json.dumps, inner, ensure_ascii=st.booleans())
    ),
    max_leaves=12,
)


@given(_VALUES.map(json.dumps) | _SECRETS, st.just(0) | st.integers(0, 200))
@settings(max_examples=400, deadline=None)
def test_no_message_shows_anything_private(message: str, cut: int) -> None:
    """Whatever it is, whole or cut off; the file is ASCII and each line is JSON."""
    shown = _recorded(message[: len(message) - cut], client_id=CANARY)
    assert "canary" not in shown.lower()
    assert str(NUMBER) not in shown
    assert [json.loads(line)["kind"] for line in shown.splitlines()] == [
        *("started", "received", "stopped")
    ]


def test_no_session_waits_for_the_recording(tmp_path: Path) -> None:
    """What the queue can't hold is dropped; later lines say how much is missing."""
    path = tmp_path / "wire.jsonl"
    recorder = Recorder(path, most_waiting_bytes=10_000)
    note = recorder.connection("42")
    for _ in range(100):
        note("received", text="x" * 1000)
    assert recorder.dropped == 93
    thread = threading.Thread(target=recorder.run)
    thread.start()
    while recorder.lines < 7:
        time.sleep(0.01)
    note("closed")
    recorder.stop()
    thread.join(8)
    assert [line.get("dropped", 0) for line in lines_of(path)] == [0] * 8 + [93, 93]


def test_a_stop_does_not_wait_for_all_that_is_queued(tmp_path: Path) -> None:
    """What can't be masked within a second (here 20 s of work) is counted instead."""
    recorder = Recorder(tmp_path / "wire.jsonl", most_waiting_bytes=2_000_000_000)
    note = recorder.connection("42")
    text = json.dumps([f"{number}" for number in range(50_000)])
    for _ in range(2000):
        note("received", text=text)
    recorder.stop()
    thread = threading.Thread(target=recorder.run, daemon=True)
    thread.start()
    thread.join(8)
    assert not thread.is_alive()
    last = lines_of(tmp_path / "wire.jsonl")[-1]
    assert (last["kind"], last["dropped"]) == ("stopped", 2000 - recorder.lines)


def test_a_recording_ends_at_its_limit_or_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once, and what comes later is ignored."""
    path, full = tmp_path / "wire.jsonl", Path("/dev/full").open("ab")  # noqa: SIM115
    reasons = [f"can't write {path}: the limit is 20000 bytes"]
    reasons.append(f"can't write {path}: {os.strerror(errno.ENOSPC)}")
    for reason in reasons:
        recorder = Recorder(path, most_bytes=20_000)
        # A device that is always full takes the file's place the next time.
        monkeypatch.setattr(os, "fdopen", lambda *_: full)
        note = recorder.connection("42")
        for _ in range(1000):
            note("received", text='{"event":"pusher:ping"}')
        with structlog.testing.capture_logs() as logs:
            recorder.run()
        note("closed")
        recorder.stop()
        failed = {"event": "recording.failed", "log_level": "warning"}
        assert logs[1:] == [{**failed, "lines": recorder.lines, "reason": reason}]
    assert 19_000 < path.stat().st_size <= 20_000


def test_a_recording_is_continued_and_made_private(tmp_path: Path) -> None:
    """Even if others could read it, and after half a line of a killed process."""
    before = '{"at":0.0,"kind":"started","format":2}\n{"at":1.5,"ki'
    for text in (None, "", before, before[:15]):
        path = tmp_path / f"{text and len(text)}.jsonl"
        if text is not None:
            path.write_text(text)
            path.chmod(0o644)
        recorder = Recorder(path)
        assert path.stat().st_mode & 0o777 == 0o600
        recorder.stop()
        recorder.run()
        after = path.read_text()
        assert after.startswith(text or "")
        lines = after.removeprefix(text or "").strip().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["started", "stopped"]


def test_what_is_not_a_recording_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error at once, even for a pipe without a reader; nothing is changed."""
    (tmp_path / "evidence").write_text("evidence")
    (tmp_path / "evidence").chmod(0o644)
    (tmp_path / "link").symlink_to(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "evidence", "isn't a recording"),
        (tmp_path / "pipe", "isn't a recording"),
        (Path("/dev/null"), "isn't a recording"),
        (tmp_path / "link", "symbolic link"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing" / "wire", "No such file"),
    ):
        with pytest.raises(ConfigError, match=f"--record: {path}.*{reason}"):
            Recorder(path)
    assert (tmp_path / "evidence").read_text() == "evidence"
    assert (tmp_path / "evidence").stat().st_mode & 0o777 == 0o644
    assert not (tmp_path / "new").exists()

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(ConfigError, match=r"--record: .*: Operation not permitted"):
        Recorder(tmp_path / "theirs")


def test_a_real_servers_restart_can_be_replayed() -> None:
    """A session does the same steps: dials, subscriptions and events."""
    again = replayed(Path(__file__).parent / "recordings" / "restarted.jsonl")
    assert (again.dials, again.subscriptions) == (7, 2)
    assert again.statuses == ["processing", *["in_progress"] * 3, "done"]
