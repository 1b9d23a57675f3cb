"""
Publishing to another Pusher server, a real soketi for instance.

The sandbox's only importer of httpx: here it is a server-side publisher, as
dryAPI is. It speaks the HTTP API of Pusher's server libraries.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx  # noqa: TID251 - a publisher beside the bridge, not a part of it
import msgspec
import structlog
import trio

from bridge.sandbox.config import EVENT_NAME, SandboxConfig
from bridge.sandbox.errors import SandboxError
from bridge.sandbox.publisher import Emission
from bridge.sandbox.signing import Call
from bridge.sandbox.statistics import Statistics


__all__ = ["RemotePublisher"]

# Pusher's HTTP API takes no more events in a call.
_BATCH = 10
# A job's events go through one lane, which keeps their order; a lane has one
# call open at a time. Measured with a soketi on two cores: 4,000 events/s with
# one lane, 6,000 to 7,000 with two, no more with four.
_LANES = 2
_LANE_LENGTH = 100
_TIMEOUT_SECONDS = 10.0
_FLUSH_SECONDS = 15.0
_CLOSE_SECONDS = 1.0
_LOOK_SECONDS = 0.25

_log = structlog.get_logger("bridge.sandbox")


class RemotePublisher:
    """Publishes through `POST /apps/{id}/batch_events`."""

    def __init__(self, config: SandboxConfig, statistics: Statistics) -> None:
        url = urlsplit(config.pusher_url or "")
        scheme = {"ws": "http", "wss": "https"}[url.scheme]
        self._config = config
        self._statistics = statistics
        self._base = urlunsplit((scheme, url.netloc, url.path.rstrip("/"), "", ""))
        self._path = f"{url.path.rstrip('/')}/apps/{quote(config.app_id)}"
        self._origin = urlunsplit((scheme, url.netloc, "", "", ""))
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)
        self._lanes = [
            trio.open_memory_channel[Emission](_LANE_LENGTH) for _ in range(_LANES)
        ]
        self._pending = 0
        self._idle = trio.Event()
        self._idle.set()
        self._reachable = True

    async def run(self) -> None:
        """Serve the lanes until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for _, lane in self._lanes:
                    nursery.start_soon(self._serve_lane, lane)
        finally:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._client.aclose()

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`."""
        for emission in emissions:
            if self._idle.is_set():
                self._idle = trio.Event()
            self._pending += 1
            send, _ = self._lanes[hash(emission.request_id) % _LANES]
            try:
                await send.send(emission)
            except trio.Cancelled:
                self._settle(1)
                raise

    async def flush(self) -> None:
        """See `Publisher`; gives up after the time that two calls may take."""
        with trio.move_on_after(_FLUSH_SECONDS):
            await self._idle.wait()

    async def wait_for_subscriber(self) -> None:
        """
        See `Publisher`.

        Raises:
            SandboxError: The server refuses the app or its secret.
        """
        path = f"{self._path}/channels/{quote(self._config.channel)}"
        while True:
            answer = await self._call("GET", path, b"")
            if answer is not None:
                status, body = answer
                if status in {401, 403, 404} or body.get("code") in {401, 403, 404}:
                    raise SandboxError(
                        f"the Pusher server at {self._base} refuses the app"
                        f" {self._config.app_id!r}: check app id, key and secret"
                    )
                if body.get("occupied"):
                    return
            await trio.sleep(_LOOK_SECONDS)

    async def _serve_lane(self, lane: trio.MemoryReceiveChannel[Emission]) -> None:
        while True:
            batch = [await lane.receive()]
            try:
                while len(batch) < _BATCH:
                    batch.append(lane.receive_nowait())
            except trio.WouldBlock:
                pass
            try:
                await self._publish(batch)
            finally:
                self._settle(len(batch))

    def _settle(self, count: int) -> None:
        self._pending -= count
        if not self._pending:
            self._idle.set()

    async def _publish(self, batch: Sequence[Emission]) -> None:
        events = [
            {"name": EVENT_NAME, "channel": self._config.channel, "data": each.data}
            for each in batch
        ]
        body = msgspec.json.encode({"batch": events})
        answer = await self._call("POST", f"{self._path}/batch_events", body)
        # soketi refuses with status 200 and an error in the body as well.
        if answer is None or answer[0] != 200 or "code" in answer[1]:
            self._statistics.events_refused += len(batch)
            if answer is not None:
                _log.warning(
                    "sandbox.publish_refused",
                    status=answer[1].get("code", answer[0]),
                    error=answer[1].get("error"),
                )
            return
        for emission in batch:
            self._statistics.accepted(emission.status)

    async def _call(
        self, method: str, path: str, body: bytes
    ) -> tuple[int, dict[str, Any]] | None:
        call = Call(method, path, body=body)
        query = self._config.app.signed_query(call, time.time())
        try:
            response = await self._client.request(
                method,
                self._origin + path,
                params=query,
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            # Not tried again: dryAPI replays nothing either.
            if self._reachable:
                _log.warning(
                    "sandbox.pusher_unreachable", url=self._base, error=repr(error)
                )
            self._reachable = False
            return None
        self._reachable = True
        try:
            answer = msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            answer = None
        return response.status_code, answer if isinstance(answer, dict) else {}
