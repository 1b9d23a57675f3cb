"""
The orders that the benchmark gives to its helpers over HTTP, and their answers.

Owns the client's side of the firehose's port, and the look at the bridge's
readiness. Calls block and have a deadline; nothing is judged here.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import Any

from benchmarks.traffic import Traffic
from benchmarks.upstream import Emission, Upstream


__all__ = ["Firehose", "OrderError", "answers"]

_LOOK_SECONDS = 0.01
_ANSWER_SECONDS = 2.0
# A bridge with 1,000 accounts takes its time: a hundred a second.
_SUBSCRIBE_SECONDS = 60.0


class OrderError(Exception):
    """A helper of the benchmark gave no usable answer."""


class Firehose:
    """
    The firehose's port, seen from the benchmark.

    Args:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._url = f"http://127.0.0.1:{port}"

    @property
    def api_url(self) -> str:
        """Where channels are authorised."""
        return self._url

    @property
    def pusher_url(self) -> str:
        """Where a Pusher client connects."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def upstream(self) -> Upstream:
        """What contenders are told of it."""
        return Upstream(self.pusher_url, self.api_url)

    def answers(self) -> bool:
        """Tell whether it serves."""
        return answers(self._url)

    def wait_subscribed(self, count: int = 1) -> None:
        """
        Wait until exactly so many clients are subscribed.

        Raises:
            OrderError: They weren't in time.
        """
        deadline = time.monotonic() + _SUBSCRIBE_SECONDS
        while _ask(self._url, None, _ANSWER_SECONDS)["subscribers"] != count:
            if time.monotonic() > deadline:
                raise OrderError(f"not {count} subscribed at the firehose in time")
            time.sleep(_LOOK_SECONDS)

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> Emission:
        """
        Have events written and wait until they are.

        Args:
            traffic: The events.
            rate: Events a second; None for as fast as the socket takes them.
            deadline_seconds: How long that may take.

        Raises:
            OrderError: It failed: the subscriber left, or was too slow.
        """
        order = {**asdict(traffic), "rate": rate}
        return Emission(**_ask(f"{self._url}/emit", order, deadline_seconds))


def answers(url: str) -> bool:
    """Tell whether a server answers with 200."""
    try:
        with _open(urllib.request.Request(url), _ANSWER_SECONDS):  # noqa: S310 - http
            return True
    except OSError:
        return False


def _ask(url: str, order: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
    data = None if order is None else json.dumps(order).encode()
    try:
        with _open(urllib.request.Request(url, data), seconds) as answer:  # noqa: S310 - http
            content: dict[str, Any] = json.loads(answer.read())
    except OSError as error:
        raise OrderError(f"{url}: {error}") from error
    return content


def _open(request: urllib.request.Request, seconds: float) -> Any:
    # Never by a proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=seconds)
