"""
The load: numbered events, and a Pusher server that is never slow.

An event is found again by what the official payload says: `request_id` names its job,
the rising `progress` says which of the job's events it is. The server, the firehose, is
a process of its own (`python -m benchmarks.load PORT`), so that its CPU isn't a
contender's. One port serves WebSockets, channel authorization and the benchmark's
orders. It prepares all bytes before the clock starts, and checks and signs nothing.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import ProtocolError

from benchmarks.program import RunError


CLIENT_ID = "bench"
CHANNEL = f"private-client.{CLIENT_ID}"
EVENT = "request.status.updated"
_APP_KEY = "bench"

# `progress` has two decimals and ends at 100.00.
_EVENTS_A_JOB = 10_000

# The last group of a UUID, twelve hexadecimal digits, is the job's number.
_ID_PREFIX = "5f6d1c2e-8b3a-4d70-9c15-"

# One write of a flood: larger than a socket's buffer, so that the kernel never waits
# for Python.
_CHUNK_BYTES = 256 * 1024

# A client pings after so long without an event: never during a run.
_ACTIVITY_TIMEOUT_SECONDS = 120

_ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Traffic:
    """A number of events, dealt to jobs in turn."""

    events: int
    jobs: int = 1000
    preview_bytes: int = 0  # the length of each (base64 text); 0 for none

    def __post_init__(self) -> None:
        if self.events > self.jobs * _EVENTS_A_JOB:
            raise ValueError(f"{self.jobs} jobs can't have {self.events} events")

    def request_id(self, index: int) -> str:
        """Give the `request_id` of an event, from 0."""
        return f"{_ID_PREFIX}{index % self.jobs:012x}"

    def payloads(self) -> Iterator[str]:
        """Give the JSON text of all events in order; they share one preview."""
        preview = "null"
        if self.preview_bytes:
            # Always the same noise, as incompressible as a JPEG.
            noise = random.Random(self.preview_bytes).randbytes(self.preview_bytes)
            preview = f'"{base64.b64encode(noise).decode()[: self.preview_bytes]}"'
        for index in range(self.events):
            step = index // self.jobs + 1
            yield (
                f'{{"request_id":"{self.request_id(index)}","status":"in_progress",'
                f'"preview":{preview},"result_url":null,'
                f'"progress":"{step // 100}.{step % 100:02d}"}}'
            )

    def index_of(self, value: bytes | None) -> int | None:
        """Say which event a record's value is, from 0; None if it isn't one of them."""
        try:
            fields = json.loads(value or b"")
            step = round(float(fields["progress"]) * 100)
            job = int(fields["request_id"].removeprefix(_ID_PREFIX), 16)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        index = (step - 1) * self.jobs + job
        ours = 0 <= index < self.events and fields["request_id"] == self.request_id(job)
        return index if ours else None

    @property
    def frame_bytes(self) -> int:
        """The length of the first event's WebSocket frame."""
        return len(_frame(next(self.payloads())))


def _frame(payload: str) -> bytes:
    """Make the unmasked frame in which soketi sends an event."""
    # soketi is JavaScript: no blanks, text isn't escaped.
    content = json.dumps(
        {"event": EVENT, "channel": CHANNEL, "data": payload},
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    # RFC 6455 section 5.2: FIN and text, then the length in one, three or nine bytes.
    length = len(content)
    if length < 126:
        return bytes((0x81, length)) + content
    if length < 1 << 16:
        return bytes((0x81, 126)) + length.to_bytes(2, "big") + content
    return bytes((0x81, 127)) + length.to_bytes(8, "big") + content


class Emission(NamedTuple):
    """When events were written, by `time.monotonic_ns`."""

    started_ns: int  # before the first
    stamps_ns: list[int]  # before each; empty for a flood


class Firehose:
    """The firehose as the benchmark sees it, at a port of 127.0.0.1."""

    name = "firehose"
    app_key = _APP_KEY

    def __init__(self, port: int) -> None:
        self._port = port
        self.api_url = f"http://127.0.0.1:{port}"
        self.pusher_url = f"ws://127.0.0.1:{port}"

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return self.subscribed() >= 0
        except RunError:
            return False

    def subscribed(self) -> int:
        """Count the clients that are subscribed; RunError if it doesn't answer."""
        subscribers: int = self._ask("GET", None, _ANSWER_SECONDS)["subscribers"]
        return subscribers

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> Emission:
        """
        Write events to the one subscriber, and wait until they are written.

        Args:
            traffic: The events.
            rate: Events a second; None for as fast as the socket takes them.
            deadline_seconds: How long that may take.

        Raises:
            RunError: The subscriber left, or was too slow.
        """
        order = {**asdict(traffic), "rate": rate}
        return Emission(**self._ask("POST", order, deadline_seconds))

    def _ask(
        self, method: str, order: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=seconds
        )
        with closing(connection):
            try:
                connection.request(method, "/", json.dumps(order))
                content: dict[str, Any] = json.load(connection.getresponse())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise RunError(f"the firehose: {error!r}") from error
        return content


class _Subscriber:
    """A client's socket; whole frames are written under its lock."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def write(self, frames: bytes) -> None:
        """Write whole frames; waits while the client doesn't read."""
        with self._lock:
            self._connection.sendall(frames)


class _Server(ThreadingHTTPServer):
    """The firehose; `subscribers` are those of the one channel."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.subscribers: set[_Subscriber] = set()

    def emit(self, traffic: Traffic, rate: float | None) -> Emission:
        """Write events to the one subscriber, as `Firehose.emit` says."""
        (subscriber,) = self.subscribers
        frames = _frames(traffic)
        if rate is None:
            size = max(_CHUNK_BYTES // len(frames[0]), 1)
            starts = range(0, len(frames), size)
            frames = [b"".join(frames[start : start + size]) for start in starts]
        stamps_ns = []
        started_ns = time.monotonic_ns()
        for index, frame in enumerate(frames):
            if rate is not None:
                due_ns = started_ns + int(index * 1e9 / rate)
                early_ns = due_ns - time.monotonic_ns()
                if early_ns > 0:
                    time.sleep(early_ns / 1e9)
                stamps_ns.append(time.monotonic_ns())
            subscriber.write(frame)
        return Emission(started_ns, stamps_ns)


@lru_cache(maxsize=2)
def _frames(traffic: Traffic) -> Sequence[bytes]:
    return [_frame(payload) for payload in traffic.payloads()]


class _Handler(BaseHTTPRequestHandler):
    """One connection: requests, or the life of a WebSocket."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Upgrade to a WebSocket, or count who is subscribed."""
        if "Upgrade" in self.headers:
            self._serve_websocket()
        else:
            self._answer({"subscribers": len(self.server.subscribers)})

    def do_POST(self) -> None:
        """Authorize a channel, or carry out an order."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/broadcasting/auth":
            self._answer({"auth": f"{_APP_KEY}:{'0' * 64}"})
        elif len(self.server.subscribers) != 1:
            self.send_error(http.client.CONFLICT, "there isn't one subscriber")
        else:
            order = json.loads(body)
            rate = order.pop("rate")
            self._answer(self.server.emit(Traffic(**order), rate)._asdict())

    def log_message(self, *_: object) -> None:
        """Log nothing: a line for each request helps no reader."""

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(http.client.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _serve_websocket(self) -> None:
        """Speak Pusher's protocol until the client leaves."""
        self.close_connection = True
        client = _Subscriber(self.connection)
        protocol = WSConnection(ConnectionType.SERVER)
        protocol.initiate_upgrade_connection(
            [(name.encode(), value.encode()) for name, value in self.headers.items()],
            self.path,
        )
        try:
            while self._reply(protocol, client) and (data := self.rfile.read1()):
                protocol.receive_data(data)
        except (OSError, ProtocolError):
            pass  # the client has left
        finally:
            self.server.subscribers.discard(client)

    def _reply(self, protocol: WSConnection, client: _Subscriber) -> bool:
        """Reply to what came; False if it was the last."""

        def send(name: str, data: dict[str, Any], **more: str) -> None:
            message = {"event": name, "data": json.dumps(data), **more}
            client.write(protocol.send(TextMessage(json.dumps(message))))

        for event in protocol.events():
            if isinstance(event, Request):
                client.write(protocol.send(AcceptConnection()))
                hello = {
                    "socket_id": f"{random.randrange(10**9)}.{random.randrange(10**9)}",
                    "activity_timeout": _ACTIVITY_TIMEOUT_SECONDS,
                }
                send("pusher:connection_established", hello)
            elif isinstance(event, (Ping, CloseConnection)):
                client.write(protocol.send(event.response()))
                if isinstance(event, CloseConnection):
                    return False
            elif isinstance(event, TextMessage):
                # Clients send small messages, each in one packet.
                message = json.loads(event.data)
                if message["event"] == "pusher:ping":
                    send("pusher:pong", {})
                elif message["event"] == "pusher:subscribe":
                    name = "pusher_internal:subscription_succeeded"
                    send(name, {}, channel=message["data"]["channel"])
                    # Last, so that no event comes before the answer. A repeated
                    # subscription is the same client's.
                    self.server.subscribers.add(client)
        return True


if __name__ == "__main__":
    _Server(int(sys.argv[1])).serve_forever()
