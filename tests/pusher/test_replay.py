"""Recordings played to a session: it makes of them what it made of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from bridge.pusher.statistics import Outcome
from tests.kit.soketi import SoketiServer
from tests.pusher.canary import shows_canary
from tests.pusher.recording_scenes import RECORDINGS, SCENES
from tests.pusher.replaying import replayed


_CHANNEL = "private-client.7"


@pytest.mark.parametrize(
    "name",
    [
        # 6 s of soketi's own grace; what came of it once is among the recordings.
        pytest.param(name, marks=pytest.mark.long if name == "restarted" else ())
        for name in SCENES
    ],
)
def test_a_replay_gives_what_the_recorded_session_gave(
    own_soketi: SoketiServer, tmp_path: Path, name: str
) -> None:
    """The same events, counts and interruptions, from a file that holds no content."""
    path = tmp_path / "wire.jsonl"

    lived = trio.run(SCENES[name], own_soketi, path)
    again = replayed(path)

    text = path.read_text()
    assert not shows_canary(text)
    for private in (own_soketi.app.key, own_soketi.app.secret, "127.0.0.1"):
        assert private.lower() not in text.lower()
    assert again.summary() == lived.summary()
    assert again.unplayed == 0
    assert len(again.events) > 1
    for event, before in zip(again.events, lived.events, strict=True):
        assert len(event.text) == len(before.text)
        assert len(event.original) == len(before.original)


@pytest.mark.parametrize(
    "path", sorted(RECORDINGS.glob("*.jsonl")), ids=lambda p: p.stem
)
def test_a_recording_gives_what_is_expected_of_it(path: Path) -> None:
    """Each file of `recordings` has its expectation beside it."""
    expected = json.loads(path.with_suffix(".expected.json").read_text())

    again = replayed(path)

    assert again.summary() == expected
    assert again.unplayed == 0


class _Tape:
    """Writes a recording by hand: what no server at hand would do, or not so soon."""

    def __init__(self, path: Path, **settings: float) -> None:
        self.path = path
        self._connection = 0
        self._lines: list[dict[str, Any]] = [
            {"at": 0.0, "kind": "started", "format": 1, "settings": settings}
        ]

    def add(self, at: float, kind: str, **members: Any) -> None:
        if kind == "dialled":
            self._connection += 1
        self._lines.append(
            {
                "at": at,
                "kind": kind,
                "connection": self._connection,
                "client": "7",
                **members,
            }
        )
        self.path.write_text("".join(f"{json.dumps(line)}\n" for line in self._lines))

    def establish(self, at: float) -> None:
        self.add(at, "dialled", scheme="ws")
        self.add(at, "opened")
        self.hear(at, "pusher:connection_established", data='{"socket_id":"1.1"}')

    def subscribe(self, at: float) -> None:
        self.add(at, "authorizing")
        self.add(at, "authorized")
        self.add(at, "sent", text='{"event":"pusher:subscribe"}')
        self.hear(at, "pusher_internal:subscription_succeeded", channel=_CHANNEL)

    def refuse(self, at: float, **members: Any) -> None:
        self.add(at, "not_authorized", message="no", **members)

    def hear(self, at: float, event: str, **members: Any) -> None:
        self.add(at, "received", text=json.dumps({"event": event, **members}))


def test_questions_that_a_recording_does_not_know_get_their_usual_answers(
    tmp_path: Path,
) -> None:
    """An hour, recorded by a client that never pinged or probed, passes as it did."""
    tape = _Tape(tmp_path / "wire.jsonl", activity_timeout_seconds=20, gone=1)
    tape.establish(0)
    tape.subscribe(0.5)
    tape.hear(3600, "request.status.updated", channel=_CHANNEL, data="{}")
    tape.add(3601, "closed")

    again = replayed(tape.path)

    assert len(again.events) == 1
    assert again.statistics.connects == {Outcome.SUBSCRIBED: 1}
    assert again.ear.interruptions == []
    assert sum(again.statistics.probes.values()) > 10
    waited_us = (again.statistics.last_event_at_us or 0) - again.ear.subscriptions[0]
    assert waited_us == pytest.approx(3599.5e6, abs=1e6)


def test_a_server_that_was_given_up_answers_nothing_more(tmp_path: Path) -> None:
    """After its last word even what the recording doesn't know stays unanswered."""
    tape = _Tape(tmp_path / "wire.jsonl")
    tape.establish(0)
    tape.subscribe(0)
    tape.add(30, "sent", text='{"event":"pusher:ping","data":{}}')
    tape.add(40, "aborted")
    tape.add(40, "closed")
    tape.establish(41)
    tape.subscribe(41)
    tape.add(42, "closed")

    again = replayed(tape.path)

    assert again.statistics.connects == {Outcome.SUBSCRIBED: 2}
    assert len(again.ear.interruptions) == 1


def test_refusals_of_every_kind_are_played(tmp_path: Path) -> None:
    """No connection, an HTTP status, no answer at all, and a token that isn't taken."""
    tape = _Tape(tmp_path / "wire.jsonl")
    tape.add(0, "dialled", scheme="wss")
    tape.add(0.1, "ended", error="ConnectError", code=None)
    tape.add(0.1, "closed")
    tape.add(1, "dialled", scheme="wss")
    tape.add(1.1, "ended", error="ConnectError", code=503)
    tape.add(1.1, "closed")
    tape.add(2, "dialled", scheme="wss")
    tape.add(12, "closed")
    tape.establish(13)
    tape.add(13, "authorizing")
    tape.refuse(14, status=503, retry_after_seconds=2.0, terminal=False)
    tape.add(16, "authorizing")
    tape.refuse(17, status=401, retry_after_seconds=None, terminal=True)
    tape.add(17, "closed")

    again = replayed(tape.path)

    assert again.statistics.connects == {
        Outcome.UNREACHABLE: 3,
        Outcome.NOT_AUTHORIZED: 1,
    }
    assert again.statistics.authorization_failures == 2
    assert again.refusal is not None
    assert again.refusal.code == 401


def test_a_run_is_chosen_and_half_a_line_is_passed_over(tmp_path: Path) -> None:
    """A file holds several runs, and what a killed process was writing."""
    first, second = _Tape(tmp_path / "1.jsonl"), _Tape(tmp_path / "2.jsonl")
    for tape in (first, second):
        tape.establish(0)
        tape.subscribe(0)
    first.hear(1, "request.status.updated", channel=_CHANNEL, data="{}")
    first.add(2, "closed")
    second.add(2, "closed")
    path = tmp_path / "wire.jsonl"
    path.write_text(f'{first.path.read_text()}{{"at":\n{second.path.read_text()}')

    assert len(replayed(path, run=0).events) == 1
    assert replayed(path).events == []
