"""What others have beside the bridge: a plain subscriber, and a consumer.

The subscriber shares nothing with the bridge's session, and no fault but soketi's own
touches it: what it missed while it was subscribed, soketi dropped. The consumer notes
when it had which record; what is judged in the end is read again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence

import trio
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from wsproto.utilities import ProtocolError

from tests.chaos.load import Emission
from tests.kit.broker import SILENT
from tests.kit.publisher import Soketi
from tests.kit.reader import Record, record_of
from tests.sandbox.client import Client, connect


_RETRY_SECONDS = 0.05

# soketi ends a connection to which it has sent nothing for 120 s. Its client here
# takes 10 s of silence for the end.
_PING_SECONDS = 5.0

_OPENING_SECONDS = 5.0

# soketi is gone, or stopped.
_ENDS = (OSError, trio.BrokenResourceError, trio.TooSlowError, ProtocolError)


class Witness:
    """The subscriber."""

    def __init__(self, soketi: Soketi, channel: str) -> None:
        self._soketi = soketi
        self.channel = channel
        self.received: set[int] = set()
        self.spans: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Subscribe, and subscribe again, until cancelled."""
        base = self._soketi.url.replace("ws://", "http://")
        while True:
            try:
                target = f"/app/{self._soketi.app.key}?protocol=7"
                async with connect(base, target) as client:
                    await self._listen(client)
            except* _ENDS:
                pass
            await trio.sleep(_RETRY_SECONDS)

    def missed(self, emitted: Sequence[Emission]) -> tuple[int, list[Emission]]:
        """Count what was emitted while it was subscribed; give what it missed."""
        within = []
        spans = iter(self.spans)
        span = next(spans, None)
        for each in emitted:
            while span is not None and span[1] < each.ended:
                span = next(spans, None)
            if span is not None and span[0] <= each.begun:
                within.append(each)
        return len(within), [
            each for each in within if each.number not in self.received
        ]

    async def _listen(self, client: Client) -> None:
        with trio.fail_after(_OPENING_SECONDS):
            first = await client.receive()
            if not first or first["event"] != "pusher:connection_established":
                return
            socket_id = json.loads(first["data"])["socket_id"]
            auth = self._soketi.sign_channel(socket_id, self.channel)
            channel = {"channel": self.channel, "auth": auth}
            await client.send("pusher:subscribe", channel)
            answer = await client.receive()
            if not answer or "subscription_succeeded" not in answer["event"]:
                return
        begun = time.time()
        self.spans.append((begun, begun))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_alive, client)
            while (message := await client.receive()) is not None:
                self.spans[-1] = begun, time.time()
                if message.get("channel") == self.channel:
                    self.received.add(json.loads(message["data"])["number"])
            nursery.cancel_scope.cancel()


async def _keep_alive(client: Client) -> None:
    while True:
        await trio.sleep(_PING_SECONDS)
        try:
            await client.send("pusher:ping")
        except (trio.BrokenResourceError, ProtocolError):
            return  # the reader will see the end


_POLL_SECONDS = 0.1
_BATCH = 500
_METADATA_SECONDS = 20.0


class Follower:
    """The consumer."""

    def __init__(self, bootstrap_servers: str, topics: Sequence[str]) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"follower-{uuid.uuid4()}",  # asked for, never joined
                "enable.auto.commit": False,
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 50,
            },
            logger=SILENT,
        )
        self.records: dict[str, list[Record]] = {topic: [] for topic in topics}
        self.seen: dict[tuple[str, int, int], float] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await trio.to_thread.run_sync(self._assign)
            while True:
                await trio.to_thread.run_sync(self._take)
        finally:
            # Closing a consumer that is in no group waits for nothing.
            self._consumer.close()

    def seen_of(self, topic: str) -> dict[tuple[int, int], float]:
        """Say when it had the record of a partition and an offset of a topic."""
        return {
            (partition, offset): at
            for (name, partition, offset), at in dict(self.seen).items()
            if name == topic
        }

    def _assign(self) -> None:
        places = []
        for topic in self.records:
            known = self._consumer.list_topics(topic, timeout=_METADATA_SECONDS)
            places += [
                TopicPartition(topic, number, OFFSET_BEGINNING)
                for number in known.topics[topic].partitions
            ]
        self._consumer.assign(places)

    def _take(self) -> None:
        for message in self._consumer.consume(_BATCH, timeout=_POLL_SECONDS):
            error = message.error()
            if error is not None:
                if error.retriable():
                    continue
                raise KafkaException(error)
            topic = message.topic()
            assert topic is not None
            record = record_of(message)
            self.records[topic].append(record)
            self.seen[topic, record.partition, record.offset] = time.time()
