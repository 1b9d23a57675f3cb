"""
A real soketi as a source of events, which are published through its HTTP API.

Owns the requests, their pace and what soketi said to each. Those of a flood are made
and signed before the clock starts. Each of a few connections has jobs of its own and
one request underway, so that a job's events keep their order; nothing is sent twice.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.orders import OrderError
from benchmarks.traffic import CHANNEL, EVENT, Traffic
from benchmarks.upstream import Emission, Upstream
from tests.kit.publisher import Soketi


__all__ = ["Attempt", "SoketiSource"]

# More didn't make it faster: soketi is one thread.
_CONNECTIONS = 4

# Pusher's HTTP API takes so many events a call.
_BATCH = 10

_HTTP_SECONDS = 10.0
_LOOK_SECONDS = 0.01
_SUBSCRIBE_SECONDS = 20.0


class Attempt(NamedTuple):
    """
    One event that was to be published; times are seconds since the epoch.

    Attributes:
        event: Which of its traffic's, from 0.
        begun: When its request went out.
        ended: When soketi's answer came, or the request broke.
        taken: Whether soketi took it; None for one that it may have taken.
    """

    event: int
    begun: float
    ended: float
    taken: bool | None


class _Request(NamedTuple):
    """One call, and which events it publishes."""

    events: Sequence[int]
    path: str
    body: bytes


class SoketiSource:
    """
    A soketi that runs.

    Args:
        soketi: It.
        api_url: Who signs for its channels.
    """

    def __init__(self, soketi: Soketi, api_url: str) -> None:
        self._soketi = soketi
        self._api_url = api_url

    @property
    def upstream(self) -> Upstream:
        """What contenders are told of it."""
        return Upstream(self._soketi.url, self._api_url, self._soketi.app.key)

    def wait_subscribed(self, count: int = 1) -> None:
        """
        Wait until exactly so many clients are subscribed.

        Raises:
            OrderError: They weren't in time.
        """
        deadline = time.monotonic() + _SUBSCRIBE_SECONDS
        while self.subscribed() != count:
            if time.monotonic() > deadline:
                raise OrderError(f"not {count} subscribed at soketi in time")
            time.sleep(_LOOK_SECONDS)

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> Emission:
        """
        Have events published and wait until they are.

        Args:
            traffic: The events.
            rate: Events a second; None for as fast as soketi takes them.
            deadline_seconds: How long that may take.

        Raises:
            OrderError: soketi didn't take all of them in time.
        """
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
            raise OrderError(f"soketi took {taken:,} of {traffic.events:,} events")
        # Whoever is interrupted between two clocks reads too little.
        since_boot_ns = max(time.monotonic_ns() - time.time_ns() for _ in range(5))

        def stamp(moment: float) -> int:
            return int(moment * 1e9) + since_boot_ns

        by_index = sorted(attempts)
        return Emission(
            started_ns=stamp(min(attempt.begun for attempt in attempts)),
            written_ns=stamp(max(attempt.ended for attempt in attempts)),
            stamps_ns=[] if rate is None else [stamp(each.begun) for each in by_index],
        )

    def publish(
        self,
        traffic: Traffic,
        rate: float | None,
        going: Callable[[], bool],
        *,
        size: int = _BATCH,
    ) -> list[Attempt]:
        """
        Publish events, whatever becomes of soketi, and tell what it said to each.

        Args:
            traffic: The events, of one account.
            rate: Events a second; None for as fast as soketi takes them.
            going: Whether to go on; asked before each request.
            size: How many events go in a request, up to ten.

        Returns:
            Those that were tried, by connection.
        """
        lanes: list[Iterable[_Request]] = [
            self._requests(traffic, lane, size) for lane in range(_CONNECTIONS)
        ]
        if rate is None:
            lanes = list(map(list, lanes))
        began = time.monotonic()

        def run(requests: Iterable[_Request]) -> list[Attempt]:
            attempts: list[Attempt] = []
            with closing(self._connect()) as connection:
                for request in requests:
                    if rate is not None:
                        due = began + request.events[-1] / rate
                        time.sleep(max(due - time.monotonic(), 0.0))
                    if not going():
                        break
                    begun = time.time()
                    taken = _post(connection, request)
                    ended = time.time()
                    attempts += [
                        Attempt(event, begun, ended, taken) for event in request.events
                    ]
            return attempts

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return [attempt for done in pool.map(run, lanes) for attempt in done]

    def _requests(self, traffic: Traffic, lane: int, size: int) -> Iterator[_Request]:
        """Make the requests of one connection, which has jobs of its own."""
        events = (
            (index, {"name": EVENT, "channel": CHANNEL, "data": payload})
            for index, payload in enumerate(traffic.payloads())
            if index % traffic.jobs % _CONNECTIONS == lane
        )
        path = f"/apps/{self._soketi.app.id}/batch_events"
        while batch := list(islice(events, size)):
            body = json.dumps({"batch": [event for _, event in batch]}).encode()
            signed = self._soketi.sign_request(path, body)
            yield _Request([index for index, _ in batch], signed, body)

    def _connect(self) -> http.client.HTTPConnection:
        """Give a connection that is made with its first request."""
        parts = urlsplit(self._soketi.http_url)
        assert parts.hostname is not None
        return http.client.HTTPConnection(
            parts.hostname, parts.port, timeout=_HTTP_SECONDS
        )

    def subscribed(self) -> int:
        """
        Tell how many clients are subscribed.

        Raises:
            OrderError: soketi doesn't answer.
        """
        with closing(self._connect()) as connection:
            try:
                connection.request("GET", self._soketi.sign_count(CHANNEL))
                count: int = json.load(connection.getresponse())["subscription_count"]
            except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
                raise OrderError(f"soketi gave no number: {error}") from error
        return count


def _post(connection: http.client.HTTPConnection, request: _Request) -> bool | None:
    """Send a request; None if soketi may have taken it and couldn't say so."""
    try:
        if connection.sock is None:
            connection.connect()
    except OSError:
        return False  # nobody is there
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
