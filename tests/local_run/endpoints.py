"""
What the run asks sandbox, bridge and board over HTTP, as any operator could.

Calls block and have a deadline; trio calls them in a thread. Nothing is judged
here.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families


__all__ = ["Board", "Bridge", "BridgeNumbers", "EndpointError", "Sandbox"]

# All answer from memory, on this machine.
_TIMEOUT_SECONDS = 2.0

# How an event's row leaves the outbox for Kafka.
_LEFT = ("bridge_rows_published_total", "bridge_rows_dead_lettered_total")


class EndpointError(Exception):
    """An endpoint gave no usable answer: it isn't up, or not any more."""


def _ask(url: str, body: dict[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)  # noqa: S310 - http, written below
    # Never by a proxy: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise EndpointError(f"{url}: {error}") from error
    return content


class Sandbox:
    """
    The sandbox's HTTP interface.

    Args:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pusher_url = f"ws://127.0.0.1:{port}"

    def answers(self) -> bool:
        """
        Tell whether it serves.

        Raises:
            EndpointError: It doesn't.
        """
        _ask(f"{self.url}/sandbox/statistics")
        return True

    def emitted(self) -> int:
        """
        Ask how many events it has emitted.

        Raises:
            EndpointError: It doesn't answer.
        """
        answer = json.loads(_ask(f"{self.url}/sandbox/statistics"))
        return int(answer["events_emitted"])

    def webhooks_under_way(self) -> int:
        """
        Ask how many webhooks it has still to deliver.

        Raises:
            EndpointError: It doesn't answer.
        """
        answer = json.loads(_ask(f"{self.url}/sandbox/statistics"))
        return int(answer["webhooks"]["open"])

    def emit(self, rate: float) -> None:
        """
        Set the simulation's rate.

        Args:
            rate: Events a second; 0 stops it, and then what it has emitted is out
                when this returns.

        Raises:
            EndpointError: It doesn't answer.
        """
        _ask(f"{self.url}/sandbox/emission", {"rate": rate})


class Board:
    """
    The board's page.

    Args:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"

    def answers(self) -> bool:
        """
        Tell whether it serves.

        Raises:
            EndpointError: It doesn't answer.
        """
        _ask(self.url)
        return True


@dataclass(frozen=True)
class BridgeNumbers:
    """
    What the bridge says of itself in its metrics.

    Attributes:
        read: Events read from the socket.
        published: Records that Kafka has acknowledged, dead letters included, gaps
            not: they are no events.
        dead_letters: Events that became dead letters.
        waiting: Records in the outbox that Kafka hasn't acknowledged, and webhooks
            that are held there.
        healed: Records of those published that the socket didn't bring.
        gaps: Times in which events may have been missed, but for the first start's.
    """

    read: int
    published: int
    dead_letters: int
    waiting: int
    healed: int
    gaps: int


class Bridge:
    """
    The bridge's health port.

    Args:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        """
        Tell whether it is subscribed and has reached Kafka.

        Raises:
            EndpointError: It isn't, or doesn't answer.
        """
        _ask(f"{self.url}/readyz")
        return True

    def numbers(self) -> BridgeNumbers:
        """
        Read its metrics.

        Raises:
            EndpointError: It doesn't answer.
        """
        return numbers_in(_ask(f"{self.url}/metrics").decode())


def numbers_in(metrics: str) -> BridgeNumbers:
    """Read the numbers out of Prometheus' text format."""
    sums: dict[str, float] = {}
    healed = gaps = 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.labels.get("topic", "").endswith(".gaps"):
                continue
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            is_healed = sample.labels.get("origin") in {"webhook", "status-endpoint"}
            if sample.name in _LEFT and is_healed:
                healed += sample.value
            is_start = sample.labels.get("cause") == "first_start"
            if sample.name == "bridge_gaps_total" and not is_start:
                gaps += sample.value
    return BridgeNumbers(
        read=int(sums["bridge_events_received_total"]),
        published=int(sums.get("bridge_records_published_total", 0)),
        dead_letters=int(sums["bridge_dlq_records_total"]),
        waiting=int(sums["bridge_outbox_rows"] + sums["bridge_outbox_held"]),
        healed=int(healed),
        gaps=int(gaps),
    )
