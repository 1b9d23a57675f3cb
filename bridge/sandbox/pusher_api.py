"""
The HTTP API of a Pusher server: what its server libraries call to publish.

Answers are soketi's, but for the status: soketi hides some refusals behind 200,
and a sandbox that does so teaches nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bridge.sandbox import frames
from bridge.sandbox.channels import Channels
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.http import json_response, read_body
from bridge.sandbox.signing import Call
from bridge.sandbox.statistics import Statistics


__all__ = ["PusherApi"]

# soketi's eventLimits: 100 KiB of data, 100 channels, names of 200 characters,
# batches of ten.
_MAX_DATA_BYTES = 100 * 1024
_MAX_CHANNELS = 100
_MAX_NAME_LENGTH = 200
_MAX_BATCH = 10
# Ten events of full size, escaped once more.
_MAX_BODY_BYTES = 4 * 1024 * 1024


class _Publication(msgspec.Struct, frozen=True):
    name: str
    data: Any
    channel: str | None = None
    channels: list[str] = []
    socket_id: str | None = None

    @property
    def targets(self) -> list[str]:
        return self.channels if self.channel is None else [self.channel]


class _Batch(msgspec.Struct, frozen=True):
    batch: list[_Publication]


def _refuse(status: int, message: str) -> Response:
    return json_response({"error": message, "code": status}, status)


class PusherApi:
    """The handlers and their routes."""

    def __init__(
        self, config: SandboxConfig, channels: Channels, statistics: Statistics
    ) -> None:
        self._config = config
        self._channels = channels
        self._statistics = statistics

    def routes(self) -> list[Route]:
        """List what is served where."""
        app = "/apps/{app_id}"
        return [
            Route(f"{app}/events", self._publish_one, methods=["POST"]),
            Route(f"{app}/batch_events", self._publish_batch, methods=["POST"]),
            Route(f"{app}/channels/{{channel}}", self._describe, methods=["GET"]),
        ]

    async def _publish_one(self, request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        refusal = self._refusal(request, body)
        if refusal is not None:
            return refusal
        try:
            event = msgspec.json.decode(body, type=_Publication)
        except (msgspec.DecodeError, RecursionError) as error:
            return _refuse(400, f"The received data is incorrect: {error}")
        return self._publish([event], {"ok": True})

    async def _publish_batch(self, request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        refusal = self._refusal(request, body)
        if refusal is not None:
            return refusal
        try:
            batch = msgspec.json.decode(body, type=_Batch).batch
        except (msgspec.DecodeError, RecursionError) as error:
            return _refuse(400, f"The received data is incorrect: {error}")
        if len(batch) > _MAX_BATCH:
            return _refuse(400, f"A batch holds at most {_MAX_BATCH} events.")
        return self._publish(batch, {"batch": [{} for _ in batch]})

    async def _describe(self, request: Request) -> Response:
        refusal = self._refusal(request, b"")
        if refusal is not None:
            return refusal
        count = self._channels.count(request.path_params["channel"])
        return json_response({"subscription_count": count, "occupied": count > 0})

    def _refusal(self, request: Request, body: bytes) -> Response | None:
        app_id = request.path_params["app_id"]
        if app_id != self._config.app_id:
            return _refuse(404, f"The app {app_id} could not be found.")
        call = Call(request.method, request.url.path, dict(request.query_params), body)
        fault = self._config.app.why_refused(call, time.time())
        return None if fault is None else _refuse(401, fault)

    def _publish(self, events: Sequence[_Publication], answer: Any) -> Response:
        # All or none: a batch that is refused in its middle has sent nothing.
        for event in events:
            refusal = _fault(event)
            if refusal is not None:
                return refusal
        for event in events:
            for channel in event.targets:
                frame = frames.channel_event(event.name, channel, event.data)
                self._channels.publish(channel, frame, exclude=event.socket_id)
            self._statistics.events_published += 1
        return json_response(answer)


def _fault(event: _Publication) -> Response | None:
    if len(event.name) > _MAX_NAME_LENGTH:
        return _refuse(400, "The event name is too long.")
    if not event.targets or len(event.targets) > _MAX_CHANNELS:
        return _refuse(400, f"An event needs 1 to {_MAX_CHANNELS} channels.")
    if any(frames.channel_name_fault(channel) for channel in event.targets):
        return _refuse(400, "The channel name is not allowed.")
    # soketi takes any JSON but what JavaScript holds for false.
    if event.data is None or event.data in ("", 0):
        return _refuse(400, "The received data is incorrect: no data.")
    data = event.data if isinstance(event.data, str) else None
    size = len(data.encode() if data is not None else msgspec.json.encode(event.data))
    if size > _MAX_DATA_BYTES:
        limit = _MAX_DATA_BYTES // 1024
        return _refuse(413, f"The event data should be less than {limit} KB.")
    return None
