"""A receiver in front of a shelf, and its client: without a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx  # noqa: TID251 - the tests are the sender
import trio
from bridge.webhooks.delivery import Event
from bridge.webhooks.receiver import Receiver, Recipient
from bridge.webhooks.statistics import WebhookStatistics
from bridge.webhooks.steady import steady_clock

from bridge.settings import Secret, WebhookSettings
from tests.webhooks.making import CLIENT_ID, SECRET, make_of, signed
from tests.webhooks.shelf import Shelf


NOW = 1_800_000_000
PATH = "/webhooks/dryapi"
MAX_BYTES = 2048


class House:
    """A receiver in front of a shelf, and a client of it."""

    def __init__(self, *client_ids: str, secret: Secret | None = None) -> None:
        self.shelf = Shelf()
        self.expected: list[int] = []
        self.now = float(NOW)
        self.steady_us = steady_clock(lambda: NOW * 10**9)
        names = client_ids or (CLIENT_ID,)
        self.receiver = Receiver(
            [
                Recipient(name, secret or Secret(f"{SECRET}-{name}"), make_of(name))
                for name in names
            ],
            take=self.shelf.take,
            expect=self.expected.append,
            statistics=WebhookStatistics(names),
            settings=WebhookSettings(max_body_bytes=MAX_BYTES, hold_seconds=10.0),
            steady_us=self.steady_us,
            is_single=not client_ids,
            now_ns=lambda: round(self.now * 10**6) * 1000,
        )
        transport = httpx.ASGITransport(self.receiver.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://bridge")

    @property
    def statistics(self) -> WebhookStatistics:
        """What was counted."""
        return self.receiver.statistics

    async def post(
        self,
        body: bytes | AsyncIterator[bytes],
        headers: Mapping[str, str] | None = None,
        *,
        path: str = PATH,
        client_id: str = CLIENT_ID,
    ) -> httpx.Response:
        """Send a request, signed unless it has headers of its own."""
        if headers is None:
            assert isinstance(body, bytes)
            headers = signed(body, self.now, secret=f"{SECRET}-{client_id}")
        return await self.http.post(path, content=body, headers=headers)

    async def told(self, body: bytes, messages: Iterator[dict[str, Any]]) -> int:
        """Send a signed request by hand; give the status."""
        headers = signed(body, self.now, secret=f"{SECRET}-42")
        answered: list[int] = []

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return next(messages)

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "server": ("127.0.0.1", 80),
        }
        await self.receiver.app(scope, receive, send)
        (status,) = answered
        return status

    def outcomes(self, client_id: str = CLIENT_ID) -> dict[str, int]:
        """Give how often which, without the zeros."""
        return {
            outcome.value: count
            for (who, outcome), count in self.statistics.deliveries.items()
            if count and who == client_id
        }

    def events(self) -> dict[Event, int]:
        """Give how many tell what, without the zeros."""
        counts = self.statistics.events
        return {event: count for (_, event), count in counts.items() if count}


def piece(body: bytes, *, has_more: bool = True) -> dict[str, Any]:
    """Give a piece of a body, as the server hands it on."""
    return {"type": "http.request", "body": body, "more_body": has_more}
