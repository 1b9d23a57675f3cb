"""A soketi that runs: its address, its app, and publishing through it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx  # noqa: TID251  # publishing is HTTP, and no part of the bridge does it


EXISTING_VARIABLE = "BRIDGE_TEST_SOKETI"
APP_VARIABLE = "BRIDGE_TEST_SOKETI_APP"

# Answers come within milliseconds; a starved machine has taken a second.
_HTTP_TIMEOUT_SECONDS = 10.0


class SoketiError(Exception):
    """soketi didn't take events."""

    def __init__(self, status: int, code: int | None, answer: str) -> None:
        super().__init__(f"HTTP {status}, code {code}: {answer}")
        self.status = status
        self.code = code


class SoketiSettingError(Exception):
    """A variable that names an existing soketi is missing or malformed."""


@dataclass(frozen=True)
class App:
    """An application of a Pusher server."""

    id: str = "app-id"
    key: str = "app-key"
    secret: str = field(default="app-secret", repr=False)


@dataclass(frozen=True)
class Event:
    """One event to publish; `data` is the text that subscribers get."""

    channel: str
    name: str
    data: str


class Soketi:
    """A soketi that runs: its address, its app, and publishing."""

    def __init__(self, url: str, app: App) -> None:
        self.url = url
        self.app = app
        parts = urlsplit(url)
        self._secure = parts.scheme == "wss"
        assert parts.hostname is not None
        self._host = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)

    @property
    def http_url(self) -> str:
        """Where its HTTP API is."""
        scheme = "https" if self._secure else "http"
        return f"{scheme}://{self._host}:{self._port}"

    def answers(self) -> bool:
        """Whether its health check answers."""
        kind = (
            http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        )
        connection = kind(self._host, self._port, timeout=_HTTP_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def sign_channel(self, socket_id: str, channel: str) -> str:
        """Sign a subscription to a private channel."""
        return f"{self.app.key}:{self._sign(f'{socket_id}:{channel}')}"

    def sign_request(self, path: str, body: bytes) -> str:
        """Sign a POST to the HTTP API."""
        # The protocol's choice; it isn't what protects the request.
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        return self._signed("POST", path, {"body_md5": digest})

    def sign_count(self, channel: str) -> str:
        """Sign a GET that asks how many connections are subscribed to a channel."""
        return self._signed("GET", f"/apps/{self.app.id}/channels/{channel}", {})

    async def subscriptions(self, channel: str) -> int:
        """Ask how many connections are subscribed to a channel."""
        async with self.publisher() as publisher:
            response = await publisher.client.get(self.sign_count(channel))
        try:
            count = response.json()["subscription_count"]
        except (ValueError, KeyError) as error:
            raise SoketiError(response.status_code, None, response.text) from error
        return int(count)

    def _signed(self, method: str, path: str, more: Mapping[str, str]) -> str:
        # Sorted by name, as the signature wants it.
        query = urlencode(
            {
                "auth_key": self.app.key,
                "auth_timestamp": str(int(time.time())),
                "auth_version": "1.0",
                **more,
            }
        )
        signature = self._sign(f"{method}\n{path}\n{query}")
        return f"{path}?{query}&auth_signature={signature}"

    def _sign(self, text: str) -> str:
        secret = self.app.secret.encode()
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Publisher]:
        """Keep connections open for many events."""
        # A proxy from the environment would not reach this machine's ports.
        async with httpx.AsyncClient(
            base_url=self.http_url,
            timeout=_HTTP_TIMEOUT_SECONDS,
            trust_env=False,
            verify=self._secure,
        ) as client:
            yield Publisher(self, client)

    async def publish(self, channel: str, event: str, data: Any) -> None:
        """Publish one event over a connection of its own."""
        async with self.publisher() as publisher:
            await publisher.publish(channel, event, data)

    async def publish_batch(self, events: Sequence[Event]) -> None:
        """Publish up to ten events in one request."""
        async with self.publisher() as publisher:
            await publisher.publish_batch(events)


class Publisher:
    """Publishes through soketi's HTTP API, with the signature of Pusher's libraries."""

    def __init__(self, soketi: Soketi, client: httpx.AsyncClient) -> None:
        self._soketi = soketi
        self.client = client

    async def publish(self, channel: str, event: str, data: Any) -> None:
        """Publish one event, as `Soketi.publish` does."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self.publish_raw(channel, event, text)

    async def publish_raw(self, channel: str, event: str, data: object) -> None:
        """Publish one event whose data is of any JSON type, as it is."""
        await self._post("events", {"name": event, "channel": channel, "data": data})

    async def publish_batch(self, events: Sequence[Event]) -> None:
        """Publish several events, as `Soketi.publish_batch` does."""
        batch = [
            {"name": event.name, "channel": event.channel, "data": event.data}
            for event in events
        ]
        await self._post("batch_events", {"batch": batch})

    async def _post(self, endpoint: str, message: Mapping[str, Any]) -> None:
        body = json.dumps(message).encode()
        path = f"/apps/{self._soketi.app.id}/{endpoint}"
        response = await self.client.post(
            self._soketi.sign_request(path, body),
            content=body,
            headers={"content-type": "application/json"},
        )
        try:
            answer = response.json()
        except ValueError:
            answer = None
        fields = answer if isinstance(answer, dict) else {}
        if response.status_code != httpx.codes.OK or fields.get("ok") is not True:
            raise SoketiError(response.status_code, fields.get("code"), response.text)


def existing_soketi() -> Soketi | None:
    """The soketi that BRIDGE_TEST_SOKETI names, or None."""
    url = os.environ.get(EXISTING_VARIABLE)
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise SoketiSettingError(f"{EXISTING_VARIABLE} must be ws://host:port")
    app = os.environ.get(APP_VARIABLE, "").split(":")
    if len(app) != 3 or not all(app):  # id, key and secret
        raise SoketiSettingError(
            f"{EXISTING_VARIABLE} is set, so {APP_VARIABLE} must be id:key:secret"
        )
    return Soketi(url.rstrip("/"), App(*app))
