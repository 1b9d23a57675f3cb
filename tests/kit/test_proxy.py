"""What each fault of the proxy does to a connection, and what its views see."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest
import trio
import trio_websocket  # noqa: TID251  # a client of the test's own
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit.kafka import KafkaServer
from tests.kit.kafka_proxy import KafkaProxy, RequestKind
from tests.kit.proxy import FaultProxy
from tests.kit.publisher import Soketi
from tests.kit.pusher_proxy import PusherProxy
from tests.kit.reader import read_topic


_DEADLINE_SECONDS = 20.0
_MOMENT_SECONDS = 0.1


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for chunk in stream:
            await stream.send_all(chunk)
    except trio.BrokenResourceError:
        pass


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends back what it receives."""
    listeners = await nursery.start(trio.serve_tcp, _echo, 0)
    port = listeners[0].socket.getsockname()[1]
    made = FaultProxy(f"127.0.0.1:{port}")
    await nursery.start(made.serve)
    with trio.fail_after(_DEADLINE_SECONDS):
        yield made


async def _connect(proxy: FaultProxy) -> trio.SocketStream:
    host, _, port = proxy.address.partition(":")
    return await trio.open_tcp_stream(host, int(port))


async def _echoed(client: trio.SocketStream, text: bytes) -> bytes:
    await client.send_all(text)
    return bytes(await client.receive_some())


async def _is_silent(client: trio.SocketStream) -> bool:
    with trio.move_on_after(_MOMENT_SECONDS):
        await client.receive_some()
        return False
    return True


async def _is_reset(client: trio.SocketStream) -> bool:
    try:
        await client.receive_some()
    except trio.BrokenResourceError:
        return True
    return False


async def test_connections_end_as_ordered_and_new_ones_work(proxy: FaultProxy) -> None:
    """A reset is an error, a cut an end, and a lost connection is open and dead."""
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"one") == b"one"
        proxy.reset()
        assert await _is_reset(client)
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"two") == b"two"
        proxy.cut()
        assert await client.receive_some() == b""
    async with await _connect(proxy) as client:
        assert await _echoed(client, b"three") == b"three"
        proxy.lose()
        await client.send_all(b"four")
        assert await _is_silent(client)
        async with await _connect(proxy) as another:
            assert await _echoed(another, b"five") == b"five"
    assert len(proxy.accepts) == 4
    assert all(time.time() - at < _DEADLINE_SECONDS for at in proxy.accepts)


async def test_what_hangs_arrives_when_it_is_resumed(proxy: FaultProxy) -> None:
    """Old and new connections hang, and lose nothing."""
    async with await _connect(proxy) as client:
        proxy.hang()
        async with await _connect(proxy) as another:
            await client.send_all(b"one")
            await another.send_all(b"two")
            assert await _is_silent(client)
            proxy.resume()
            assert await client.receive_some() == b"one"
            assert await another.receive_some() == b"two"


def _produce(servers: str, topic: str, value: bytes) -> int:
    """Write one record and give the number of records that were not acknowledged."""
    with closing(Producer({"bootstrap.servers": servers})) as producer:
        producer.produce(topic, value, b"key", 0)
        waiting = producer.flush(1.5)
        # Otherwise closing would wait for its acknowledgement.
        producer.purge()
        return waiting


async def test_a_held_request_arrives_after_its_client_is_gone(
    own_kafka: KafkaServer, topic: Topic, nursery: trio.Nursery
) -> None:
    """It comes late, behind what went another way."""
    proxy = KafkaProxy(own_kafka.detours[0])
    await nursery.start(proxy.serve)

    async def produce(servers: str, value: bytes) -> int:
        return await trio.to_thread.run_sync(_produce, servers, topic.name, value)

    async def values(expected: int) -> list[bytes | None]:
        records = await trio.to_thread.run_sync(
            read_topic, topic.bootstrap_servers, topic.name, expected, _DEADLINE_SECONDS
        )
        return [record.value for record in records]

    # The client is sent to the proxy again by the metadata that it gets.
    assert await produce(proxy.bootstrap_servers, b"passes") == 0
    proxy.hold(RequestKind.PRODUCE)
    assert await produce(proxy.bootstrap_servers, b"held") == 1
    (held,) = proxy.held
    assert await produce(topic.bootstrap_servers, b"direct") == 0
    assert await values(2) == [b"passes", b"direct"]

    with trio.fail_after(_DEADLINE_SECONDS):
        await proxy.release()

    assert held.answer is not None
    assert await values(3) == [b"passes", b"direct", b"held"]


async def test_messages_of_a_server_are_counted_added_and_dropped(
    soketi: Soketi, nursery: trio.Nursery
) -> None:
    """Pongs pass where messages are dropped; an added one comes behind the next."""
    proxy = PusherProxy(soketi.url)
    await nursery.start(proxy.serve)
    subscribe = {"event": "pusher:subscribe", "data": {"channel": "public-kit"}}
    added = {"event": "pusher:error", "data": {"message": "a" * 150}}
    url = f"{proxy.url}/app/{soketi.app.key}?protocol=7"
    with trio.fail_after(_DEADLINE_SECONDS):
        async with trio_websocket.open_websocket_url(url) as client:

            async def event() -> str:
                return str(json.loads(await client.get_message())["event"])

            assert await event() == "pusher:connection_established"
            proxy.insert(json.dumps(added))
            await client.send_message(json.dumps(subscribe))
            assert await event() == "pusher_internal:subscription_succeeded"
            assert await event() == "pusher:error"
            proxy.drop()
            await client.send_message(json.dumps(subscribe))
            await client.send_message(json.dumps({"event": "pusher:ping", "data": {}}))
            assert await event() == "pusher:pong"
    assert proxy.acknowledgements == 2
    assert len(proxy.accepts) == 1
