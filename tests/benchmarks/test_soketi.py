"""What the real soketi's publisher promises, tried with a server that is none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.orders import OrderError
from benchmarks.soketi import SoketiSource
from benchmarks.traffic import Traffic
from tests.kit.process import free_ports
from tests.kit.publisher import App, Soketi


_DEADLINE_SECONDS = 10.0
_TRAFFIC = Traffic(events=100, jobs=8)


class _Server(ThreadingHTTPServer):
    """
    Takes events, or does what a test wants instead.

    Attributes:
        taken: The events' data in the order in which they were taken.
        mood: `take`, `refuse`, or `break` after having taken.
        count: What it answers to who asks for the number of subscribers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[str] = []
        self.mood = "take"
        self.count = ""
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mood = self.server.mood
        if mood != "refuse":
            with self.server.lock:
                self.server.taken += [event["data"] for event in body["batch"]]
        if mood == "break":
            self.close_connection = True
            return
        self._answer(json.dumps({"ok": mood == "take"}))

    def do_GET(self) -> None:
        self._answer(self.server.count)

    def _answer(self, text: str) -> None:
        answer = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[_Server]:
    """A server in a thread."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_DEADLINE_SECONDS)


def _source(port: int) -> SoketiSource:
    return SoketiSource(Soketi(f"ws://127.0.0.1:{port}", App()), "http://any")


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_jobs_keep_their_order(server: _Server, rate: float | None) -> None:
    """All events come once, and those of a job one after the other."""
    source = _source(server.server_port)

    emission = source.emit(_TRAFFIC, rate, _DEADLINE_SECONDS)

    assert sorted(server.taken) == sorted(_TRAFFIC.payloads())
    jobs: dict[str, list[float]] = {}
    for data in server.taken:
        value = json.loads(data)
        jobs.setdefault(value["request_id"], []).append(float(value["progress"]))
    assert all(steps == sorted(steps) for steps in jobs.values())
    assert len(emission.stamps_ns) == (_TRAFFIC.events if rate else 0)
    assert emission.started_ns <= emission.written_ns <= time.monotonic_ns()


def test_stamps_are_in_the_order_of_events(server: _Server) -> None:
    """At a rate none goes before its time, whichever connection it goes over."""
    before_ns = time.monotonic_ns()
    emission = _source(server.server_port).emit(_TRAFFIC, 500.0, _DEADLINE_SECONDS)

    slack_ns = 100_000  # one clock is read as the other
    for event, stamp in enumerate(emission.stamps_ns):
        assert stamp >= before_ns + event * 2_000_000 - slack_ns


@pytest.mark.parametrize(
    ("mood", "taken"), [("take", True), ("refuse", False), ("break", None)]
)
def test_answers_are_told_apart(
    server: _Server, mood: str, *, taken: bool | None
) -> None:
    """An event was taken, refused, or may have been taken; none is sent twice."""
    server.mood = mood

    attempts = _source(server.server_port).publish(_TRAFFIC, None, lambda: True)

    assert {attempt.taken for attempt in attempts} == {taken}
    assert sorted(attempt.event for attempt in attempts) == list(range(100))
    assert len(server.taken) == (0 if mood == "refuse" else 100)


@pytest.mark.parametrize("answer", ["{}", "at once"])
def test_number_that_is_none(server: _Server, answer: str) -> None:
    """Without a number nobody knows who is subscribed, whatever soketi says."""
    server.count = answer

    with pytest.raises(OrderError, match="no number"):
        _source(server.server_port).subscribed()


def test_subscribers_are_waited_for(server: _Server) -> None:
    """The wait ends when soketi counts as many as there should be."""
    server.count = '{"subscription_count": 1}'

    _source(server.server_port).wait_subscribed()


def test_nobody_there_is_a_refusal() -> None:
    """What can't be sent was not taken, and the source goes on trying."""
    (port,) = free_ports(1)

    attempts = _source(port).publish(_TRAFFIC, None, lambda: True)

    assert [attempt.taken for attempt in attempts] == [False] * 100


def test_what_soketi_refuses_ends_a_measurement(server: _Server) -> None:
    """A run of which soketi didn't take all has no figures."""
    server.mood = "refuse"

    with pytest.raises(OrderError, match="took 0 of 100"):
        _source(server.server_port).emit(_TRAFFIC, None, _DEADLINE_SECONDS)


def test_publishing_ends_when_it_is_told(server: _Server) -> None:
    """Nothing is tried any more once it isn't to go on."""
    calls = iter([True] * 8)

    attempts = _source(server.server_port).publish(
        _TRAFFIC, 1000.0, lambda: next(calls, False), size=1
    )

    assert len(attempts) == len(server.taken) == 8
