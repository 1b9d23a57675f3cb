"""
The load: numbered events, the server that writes them, the consumer that has them.

An event is found again by what the official payload says: `request_id` names its job,
the rising `progress` says which of the job's events it is.

Both programs are processes of their own, so that their CPU isn't a contender's. The
firehose (`python -m benchmarks.load firehose PORT`) is a Pusher server that is never
slow: one port serves WebSockets, channel authorization and the benchmark's orders; all
bytes are made before the clock starts, nothing is checked or signed. The consumer
(`... consumer SERVERS TOPIC FILE TRAFFIC`) is an ordinary one of confluent-kafka.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
import random
import socket
import sys
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import ProtocolError

from benchmarks.program import RunError


CLIENT_ID = "bench"
CHANNEL = f"private-client.{CLIENT_ID}"
EVENT = "request.status.updated"
_APP_KEY = "bench"

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


def ask(
    port: int, path: str, order: object = None, seconds: float = _ANSWER_SECONDS
) -> dict[str, Any]:
    """
    Ask a server of this machine by GET, or by POST with an order, and decode its JSON.

    Raises:
        RunError: It doesn't answer in time, or not with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    with closing(connection):
        try:
            method, body = ("POST", json.dumps(order)) if order else ("GET", None)
            connection.request(method, path, body)
            answer = connection.getresponse()
            content: dict[str, Any] = json.load(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RunError(f"port {port} gave no answer: {error!r}") from error
    if answer.status != http.client.OK:
        raise RunError(f"port {port} answered {answer.status} {content}")
    return content


class Firehose:
    """The firehose as the benchmark sees it, at a port of 127.0.0.1."""

    name = "the firehose"
    app_key = _APP_KEY

    def __init__(self, port: int) -> None:
        self._port = port
        self.api_url = f"http://127.0.0.1:{port}"
        self.pusher_url = f"ws://127.0.0.1:{port}"

    def subscribed(self) -> int:
        """Count the clients that are subscribed; RunError if it doesn't answer."""
        return int(ask(self._port, "/")["subscribers"])

    def emit(
        self, traffic: Traffic, rate: float | None, deadline_seconds: float
    ) -> list[int]:
        """
        Write events to the one subscriber, and wait until they are written.

        They are written at a rate of events a second, or as fast as the socket takes
        them. Raises RunError if the subscriber leaves, or takes longer than it may.

        Returns:
            When each was written, by `time.monotonic_ns`; of a flood, when it began.
        """
        order = {**asdict(traffic), "rate": rate}
        stamps_ns: list[int] = ask(self._port, "/", order, deadline_seconds)[
            "stamps_ns"
        ]
        return stamps_ns


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

    def emit(self, traffic: Traffic, rate: float | None) -> list[int]:
        """Write events to the one subscriber, as `Firehose.emit` says."""
        (subscriber,) = self.subscribers
        frames = _frames(traffic)
        started_ns = time.monotonic_ns()
        if rate is None:
            size = max(_CHUNK_BYTES // len(frames[0]), 1)
            starts = range(0, len(frames), size)
            chunks = [b"".join(frames[start : start + size]) for start in starts]
            started_ns = time.monotonic_ns()
            for chunk in chunks:
                subscriber.write(chunk)
            return [started_ns]
        stamps_ns = []
        for index, frame in enumerate(frames):
            due_ns = started_ns + int(index * 1e9 / rate)
            time.sleep(max(due_ns - time.monotonic_ns(), 0) / 1e9)
            stamps_ns.append(time.monotonic_ns())
            subscriber.write(frame)
        return stamps_ns


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
            self._answer({"stamps_ns": self.server.emit(Traffic(**order), rate)})

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


# -- The consumer -------------------------------------------------------------

READY, DONE = "ready", "received all records"
"""What both programs write once they serve, and the consumer when it has finished."""

# The latencies of a run's first second are left out: caches are filled then.
_LEAD_SECONDS = 1.0

# After so long without a record the missing ones count as lost.
_SILENCE_NS = 10 * 10**9

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Latency:
    """What events took, in milliseconds; half, 99 % and 99.9 % took no longer."""

    p50: float
    p99: float
    p999: float


def latency_of(
    stamps_ns: Sequence[int], received_ns: Sequence[int], rate: float
) -> Latency | None:
    """
    Give the percentiles of all events but those of the first second.

    `received_ns` says when the consumer had each, 0 for those that didn't come.
    """
    # Never more than half is left out.
    lead = int(min(_LEAD_SECONDS * rate, len(received_ns) / 2))
    pairs = zip(received_ns[lead:], stamps_ns[lead:], strict=True)
    # The verdict counts what didn't come.
    taken = sorted((came - written) / 1e6 for came, written in pairs if came)
    if not taken:
        return None
    ranks = [math.ceil(len(taken) * share) for share in (0.5, 0.99, 0.999)]
    return Latency(*(taken[rank - 1] for rank in ranks))


def _consume(servers: str, topic: str, file: Path, traffic: Traffic) -> None:
    """
    Note the time of each event's record, until all have come or none for a while.

    The topic is new. The times (0 for what didn't come) are written to a file.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "benchmark",  # required, never joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    # It connects to the broker meanwhile.
    consumer.poll(_POLL_SECONDS)
    print(READY, flush=True)
    received_ns = array("q", bytes(8 * traffic.events))
    left = traffic.events
    last_ns = None
    while left and (last_ns is None or time.monotonic_ns() - last_ns < _SILENCE_NS):
        message = consumer.poll(_POLL_SECONDS)
        now_ns = time.monotonic_ns()
        if message is None:
            continue
        if (error := message.error()) is not None:
            raise KafkaException(error)
        index = traffic.index_of(message.value())
        if index is not None and not received_ns[index]:
            received_ns[index] = last_ns = now_ns
            left -= 1
    file.write_text(json.dumps(received_ns.tolist()))
    print(DONE, flush=True)
    consumer.close()


if __name__ == "__main__":
    if sys.argv[1] == "firehose":
        server = _Server(int(sys.argv[2]))
        print(READY, flush=True)
        server.serve_forever()
    else:
        servers, topic, file, traffic = sys.argv[2:]
        _consume(servers, topic, Path(file), Traffic(**json.loads(traffic)))
