"""
A real soketi as a source of events, which are published through its HTTP API.

Each of a few connections has jobs of its own and one request underway, so that a job's
events keep their order; nothing is sent twice. A flood's requests are made and signed
before the clock starts.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.load import CHANNEL, CLIENT_ID, EVENT, Traffic, ask
from benchmarks.program import RunError
from tests.kit.dryapi import DryApi
from tests.kit.publisher import Soketi
from tests.kit.soketi import SoketiServer


# More didn't make it faster: soketi is one thread.
_CONNECTIONS = 4

# Pusher's HTTP API takes so many events a call.
_BATCH = 10

_HTTP_SECONDS = 10.0


class Attempt(NamedTuple):
    """One event that was to be published; times are seconds since the epoch."""

    event: int  # which of its traffic's, from 0
    begun: float  # when its request was sent
    ended: float  # when soketi's answer came, or the request broke
    taken: bool | None  # whether soketi accepted it; None if it may have


class Request(NamedTuple):
    """One call, and which events it publishes."""

    events: Sequence[int]
    path: str
    body: bytes


class SoketiSource:
    """A soketi that runs, and `api_url`, where its channels are signed."""

    name = "a real soketi"

    def __init__(self, soketi: Soketi, api_url: str) -> None:
        self.soketi = soketi
        self.pusher_url = soketi.url
        self.app_key = soketi.app.key
        self.api_url = api_url
        port = urlsplit(soketi.http_url).port
        assert port is not None
        self._port = port

    def subscribed(self) -> int:
        """Count the clients that are subscribed; RunError if soketi doesn't answer."""
        return int(
            ask(self._port, self.soketi.sign_count(CHANNEL))["subscription_count"]
        )

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> list[int]:
        """Publish events as `Firehose.emit` writes them; RunError if soketi refuses."""
        deadline = time.monotonic() + deadline_seconds
        attempts = self.publish(
            traffic,
            rate,
            lambda: time.monotonic() < deadline,
            # At a rate each goes by itself, when it is due, as dryAPI's do.
            size=_BATCH if rate is None else 1,
        )
        taken = sum(attempt.taken is True for attempt in attempts)
        if taken < traffic.events:
            raise RunError(f"soketi accepted {taken:,} of {traffic.events:,} events")
        # An interruption between the two clocks makes the difference too small.
        since_boot_ns = max(time.monotonic_ns() - time.time_ns() for _ in range(5))
        stamps_ns = [int(each.begun * 1e9) + since_boot_ns for each in sorted(attempts)]
        return [min(stamps_ns)] if rate is None else stamps_ns

    def publish(
        self,
        traffic: Traffic,
        rate: float | None,
        going: Callable[[], bool],
        *,
        size: int = _BATCH,
    ) -> list[Attempt]:
        """
        Publish events even while soketi is away, and note its answer to each.

        `going` says before each request whether to go on; `size` is the number of
        events a request, up to ten.
        """

        def lane(number: int) -> Iterator[tuple[int, str]]:
            for index, payload in enumerate(traffic.payloads()):
                if index % traffic.jobs % _CONNECTIONS == number:
                    yield index, payload

        lanes: list[Iterable[Request]] = [
            self.requests(lane(number), size) for number in range(_CONNECTIONS)
        ]
        if rate is None:
            lanes = list(map(list, lanes))
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            sent = pool.map(lambda each: list(self.send(each, rate, going)), lanes)
            return [attempt for attempts in sent for attempt in attempts]

    def requests(
        self, payloads: Iterable[tuple[int, str]], size: int = _BATCH
    ) -> Iterator[Request]:
        """Make and sign the requests that publish numbered payloads."""
        numbered = iter(payloads)
        path = f"/apps/{self.soketi.app.id}/batch_events"
        while pairs := list(islice(numbered, size)):
            batch = [{"name": EVENT, "channel": CHANNEL, "data": p} for _, p in pairs]
            body = json.dumps({"batch": batch}).encode()
            signed = self.soketi.sign_request(path, body)
            yield Request([index for index, _ in pairs], signed, body)

    def send(
        self, requests: Iterable[Request], rate: float | None, going: Callable[[], bool]
    ) -> Iterator[Attempt]:
        """Send requests over one connection, each when its last event is due."""
        began = time.monotonic()
        # It is opened by its first request.
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=_HTTP_SECONDS
        )
        with closing(connection):
            for request in requests:
                if rate is not None:
                    due = began + request.events[-1] / rate
                    time.sleep(max(due - time.monotonic(), 0.0))
                if not going():
                    return
                begun = time.time()
                taken = _post(connection, request)
                ended = time.time()
                for event in request.events:
                    yield Attempt(event, begun, ended, taken)


def _post(connection: http.client.HTTPConnection, request: Request) -> bool | None:
    """Send a request; None if soketi may have accepted it and couldn't answer."""
    try:
        if connection.sock is None:
            connection.connect()
    except OSError:
        return False  # no server is there
    try:
        connection.request(
            "POST", request.path, request.body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    return answer.status == http.client.OK and json.loads(content).get("ok") is True


@contextmanager
def soketi_running() -> Iterator[tuple[SoketiServer, SoketiSource]]:
    """Run a soketi, and a fake dryAPI that signs for its channels, inside the block."""
    with (
        SoketiServer() as soketi,
        # The token that every contender is given.
        DryApi(soketi, {CLIENT_ID: "any"}).serving() as dryapi,
    ):
        yield soketi, SoketiSource(soketi, dryapi.url)
