"""
pysher and confluent-kafka: what a user of Python would write.

The environment says from where events come and where they go. pysher calls back in its
own thread, which passes each event to librdkafka; the main thread takes delivery
reports. With the argument `unchecked` WebSocket texts aren't checked for valid UTF-8,
which websocket-client does byte by byte in Python.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

import pysher
from confluent_kafka import KafkaError, Message, Producer


_logger = logging.getLogger("peer")

_LINGER_MS = 5

# How long to wait for a full queue before the event is offered again.
_ROOM_SECONDS = 0.1

_POLL_SECONDS = 0.5
_FLUSH_SECONDS = 5.0


class _Forwarder:
    """Passes events to the producer, and logs those that Kafka didn't take."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": _LINGER_MS,
                # Where Java's clients would look for a key.
                "partitioner": "murmur2_random",
            }
        )
        # The first event shouldn't wait for it.
        self._producer.list_topics(topic, timeout=_FLUSH_SECONDS)

    def forward(self, data: str) -> None:
        """Send an event; waits while the producer's queue is full."""
        key = json.loads(data)["request_id"]
        while True:
            try:
                self._producer.produce(
                    self._topic, data, key, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(_ROOM_SECONDS)
            else:
                return

    def serve(self) -> NoReturn:
        """Take delivery reports until the process ends."""
        while True:
            self._producer.poll(_POLL_SECONDS)

    def flush(self) -> None:
        """Send what is left."""
        self._producer.flush(_FLUSH_SECONDS)

    @staticmethod
    def _delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            _logger.error("lost an event of %r: %s", message.key(), error)


def _run(names: Mapping[str, str], *, checked: bool) -> NoReturn:
    forwarder = _Forwarder(names["KAFKA"], names["TOPIC"])

    def stop(_: int, __: FrameType | None) -> NoReturn:
        forwarder.flush()
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    server = urlsplit(names["PUSHER_URL"])
    pusher = pysher.Pusher(
        key=names["APP_KEY"],
        custom_host=server.hostname,
        secure=False,
        port=server.port,
        auth_endpoint=f"{names['API_URL']}/broadcasting/auth",
        auth_endpoint_headers={"Authorization": "Bearer any"},
        log_level=logging.WARNING,
    )
    if not checked:
        # Not among pysher's own arguments; it hands these to run_forever.
        pusher.connection.socket_kwargs["skip_utf8_validation"] = True

    def subscribe(_: str) -> None:
        # Once for each connection: pysher doesn't subscribe again by itself.
        pusher.subscribe(names["CHANNEL"]).bind(names["EVENT"], forwarder.forward)

    pusher.connection.bind("pusher:connection_established", subscribe)
    pusher.connect()
    forwarder.serve()


if __name__ == "__main__":
    _run(os.environ, checked="unchecked" not in sys.argv[1:])
