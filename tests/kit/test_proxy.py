"""What the proxy promises: it lets pass, holds back, and lets go, on a real Kafka."""

from __future__ import annotations

from contextlib import closing

import pytest
import trio
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit.kafka import Detour, KafkaServer
from tests.kit.process import free_ports
from tests.kit.proxy import KafkaProxy, RequestKind
from tests.kit.reader import read_topic


_DEADLINE_SECONDS = 20.0


@pytest.fixture
async def proxy(nursery: trio.Nursery, own_kafka: KafkaServer) -> KafkaProxy:
    """A proxy in front of the suite's Kafka."""
    made = KafkaProxy(own_kafka.detours[0])
    await nursery.start(made.serve)
    return made


def _produce(servers: str, topic: str, value: bytes) -> int:
    """Write one record and give the number of records that were not acknowledged."""
    with closing(Producer({"bootstrap.servers": servers})) as producer:
        producer.produce(topic, value, b"key", 0)
        waiting = producer.flush(1.5)
        # Otherwise closing would wait for its acknowledgement.
        producer.purge()
        return waiting


async def _values(topic: Topic, expected: int) -> list[bytes | None]:
    records = await trio.to_thread.run_sync(
        read_topic, topic.bootstrap_servers, topic.name, expected, _DEADLINE_SECONDS
    )
    return [record.value for record in records]


async def test_a_held_request_arrives_after_its_client_is_gone(
    proxy: KafkaProxy, topic: Topic
) -> None:
    """What passes, passes; what is held comes late, behind what went another way."""

    async def produce(servers: str, value: bytes) -> int:
        return await trio.to_thread.run_sync(_produce, servers, topic.name, value)

    # The client is sent to the proxy again by the metadata that it gets.
    assert await produce(proxy.bootstrap_servers, b"passes") == 0
    proxy.hold(RequestKind.PRODUCE)
    assert await produce(proxy.bootstrap_servers, b"held") == 1
    (held,) = proxy.held
    assert await produce(topic.bootstrap_servers, b"direct") == 0
    assert await _values(topic, 2) == [b"passes", b"direct"]

    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.release()

    assert held.answer is not None
    assert await _values(topic, 3) == [b"passes", b"direct", b"held"]


async def test_without_a_broker_a_client_is_let_down(nursery: trio.Nursery) -> None:
    """A connection that can't be passed on ends, and the proxy goes on."""
    detour = Detour(*free_ports(2))
    await nursery.start(KafkaProxy(detour).serve)
    for _ in range(2):
        async with await trio.open_tcp_stream("127.0.0.1", detour.port) as stream:
            assert await stream.receive_some(1) == b""
