"""
A server that speaks Pusher protocol 7 as little as it must, and is never slow.

It runs in a process of its own (`python -m benchmarks.firehose PORT`), so that its
CPU isn't a contender's. One port serves WebSocket, channel authorisation and the
orders of the benchmark (`orders.Firehose`). Bytes are made before the clock starts;
then it writes as fast as the socket takes them, or at a rate, event by event. It
checks nothing and signs nothing: tests of the session have other servers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from itertools import zip_longest
from typing import Any

from benchmarks.traffic import APP_KEY, Traffic, channel_of, frame_of, text_frame


__all__ = ["FirehoseServer"]

# RFC 6455 section 1.3.
_HANDSHAKE_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# RFC 6455 section 5.2: opcodes, the length's markers and the bits of a header.
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_FIN, _OPCODE, _LENGTH = 0x80, 0x0F, 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127

# One write of the flood. Larger than a socket's buffer, so that the kernel is
# never left waiting for Python.
_CHUNK_BYTES = 256 * 1024

_ACTIVITY_TIMEOUT_SECONDS = 120


class _Subscriber:
    """A client's socket; whole frames are written under its lock."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def write(self, frames: bytes) -> None:
        """Write whole frames; waits as long as the client doesn't read."""
        with self._lock:
            self._connection.sendall(frames)


class FirehoseServer(ThreadingHTTPServer):
    """
    The server.

    Attributes:
        subscribers: Who gets the events of which channel.
    """

    daemon_threads = True
    # A bridge with many accounts connects a hundred a second.
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.subscribers: dict[str, _Subscriber] = {}

    def emit(self, traffic: Traffic, rate: float | None) -> dict[str, Any]:
        """
        Write events, each to the subscriber of its account's channel.

        Args:
            traffic: The events; somebody is subscribed for each of its accounts.
            rate: Events a second; None for as fast as the sockets take them.

        Returns:
            `started_ns` and `written_ns`, before the first write and after the
            last, and with a rate `stamps_ns`, before each event's write; all of
            `time.monotonic_ns`.
        """
        subscribers = [
            self.subscribers[channel_of(client_id)] for client_id in traffic.client_ids
        ]
        frames = _frames(traffic)
        if rate is not None:
            return _write_paced(subscribers, frames, rate)
        # All accounts get their first chunk, then all their second one.
        rounds = zip_longest(
            *(
                _chunks(frames[place :: len(subscribers)])
                for place in range(traffic.accounts)
            )
        )
        writes = [
            (subscriber, chunk)
            for chunks in rounds
            for subscriber, chunk in zip(subscribers, chunks, strict=True)
            if chunk
        ]
        started_ns = time.monotonic_ns()
        for subscriber, chunk in writes:
            subscriber.write(chunk)
        return {"started_ns": started_ns, "written_ns": time.monotonic_ns()}


def _write_paced(
    subscribers: Sequence[_Subscriber], frames: Sequence[bytes], rate: float
) -> dict[str, Any]:
    stamps_ns = []
    started_ns = time.monotonic_ns()
    for index, frame in enumerate(frames):
        due_ns = started_ns + int(index * 1e9 / rate)
        early_ns = due_ns - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        stamps_ns.append(time.monotonic_ns())
        subscribers[index % len(subscribers)].write(frame)
    return {
        "started_ns": started_ns,
        "written_ns": time.monotonic_ns(),
        "stamps_ns": stamps_ns,
    }


@lru_cache(maxsize=2)
def _frames(traffic: Traffic) -> tuple[bytes, ...]:
    channels = [channel_of(client_id) for client_id in traffic.client_ids]
    return tuple(
        frame_of(payload, channels[traffic.account_of(index)])
        for index, payload in enumerate(traffic.payloads())
    )


def _chunks(frames: Sequence[bytes]) -> list[bytes]:
    chunks, gathered, size = [], list[bytes](), 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= _CHUNK_BYTES:
            chunks.append(b"".join(gathered))
            gathered, size = [], 0
    return [*chunks, b"".join(gathered)]


class _Handler(BaseHTTPRequestHandler):
    """One connection: a request, or the life of a WebSocket."""

    server: FirehoseServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Upgrade a WebSocket or tell who is subscribed."""
        key = self.headers.get("Sec-WebSocket-Key")
        if key is not None:
            self._upgrade(key)
            self._speak()
        else:
            self._answer({"subscribers": len(self.server.subscribers)})

    def do_POST(self) -> None:
        """Authorise any channel, or take an order."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/broadcasting/auth":
            self._answer({"auth": f"{APP_KEY}:{'0' * 64}"})
            return
        order = json.loads(body)
        rate = order.pop("rate")
        traffic = Traffic(**order)
        if self.server.subscribers.keys() != set(map(channel_of, traffic.client_ids)):
            self.send_error(HTTPStatus.CONFLICT, "not one subscriber for each account")
            return
        self._answer(self.server.emit(traffic, rate))

    def log_message(self, *_: object) -> None:
        """Stay silent: a line for each request tells nothing here."""

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _upgrade(self, key: str) -> None:
        digest = hashlib.sha1(key.encode() + _HANDSHAKE_GUID, usedforsecurity=False)
        self.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(digest.digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True

    def _speak(self) -> None:
        """Answer a client until it goes."""
        subscriber = _Subscriber(self.connection)
        hello = {
            "socket_id": f"{random.randrange(10**9)}.{random.randrange(10**9)}",
            "activity_timeout": _ACTIVITY_TIMEOUT_SECONDS,
        }
        try:
            subscriber.write(_event("pusher:connection_established", hello))
            while self._answer_frame(subscriber, *_read_frame(self.rfile)):
                pass
        except (EOFError, OSError):
            pass  # the client is gone, which is how most leave
        finally:
            for channel, other in list(self.server.subscribers.items()):
                if other is subscriber:
                    del self.server.subscribers[channel]

    def _answer_frame(self, client: _Subscriber, opcode: int, content: bytes) -> bool:
        """Answer one frame; False if it was the last."""
        if opcode == _CLOSE:
            client.write(bytes((_FIN | _CLOSE, len(content))) + content)
            return False
        if opcode == _PING:
            client.write(bytes((_FIN | _PONG, len(content))) + content)
        elif opcode == _TEXT:
            message = json.loads(content)
            name = message["event"]
            if name == "pusher:ping":
                client.write(_event("pusher:pong", {}))
            elif name == "pusher:subscribe":
                succeeded = "pusher_internal:subscription_succeeded"
                channel = message["data"]["channel"]
                client.write(_event(succeeded, {}, channel=channel))
                # Last, so that no event can come before the answer. A client that asks
                # whether it is still subscribed is no other one.
                self.server.subscribers[channel] = client
        return True


def _event(name: str, data: dict[str, Any], **more: str) -> bytes:
    return text_frame(json.dumps({"event": name, "data": json.dumps(data), **more}))


def _read_frame(stream: BufferedIOBase) -> tuple[int, bytes]:
    """Read a client's frame and take off its mask."""
    first, second = _read(stream, 2)
    length = second & _LENGTH
    if length == _TWO_BYTES:
        length = int.from_bytes(_read(stream, 2), "big")
    elif length == _EIGHT_BYTES:
        length = int.from_bytes(_read(stream, 8), "big")
    mask = _read(stream, 4)
    masked = _read(stream, length)
    content = bytes(byte ^ mask[place % 4] for place, byte in enumerate(masked))
    return first & _OPCODE, content


def _read(stream: BufferedIOBase, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


if __name__ == "__main__":
    FirehoseServer(int(sys.argv[1])).serve_forever()
