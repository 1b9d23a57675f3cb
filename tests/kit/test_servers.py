"""The real servers start, keep their addresses, and end without leaving anything."""

from __future__ import annotations

from contextlib import closing

import psutil
import pytest
import trio
import trio.from_thread
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError
from tests.kit.reader import read_topic
from tests.kit.registry import RegistryServer
from tests.kit.soketi import SoketiServer


_DEADLINE_SECONDS = 20.0


def _produce(topic: Topic, value: bytes) -> None:
    with closing(Producer({"bootstrap.servers": topic.bootstrap_servers})) as producer:
        producer.produce(topic.name, value, b"key", 1, headers=[("ce_id", b"\x01")])
        assert producer.flush(_DEADLINE_SECONDS) == 0


def test_a_killed_broker_keeps_what_it_acknowledged(
    own_kafka: KafkaServer, topic: Topic
) -> None:
    """After SIGKILL and a start, records and port are the same, the process is not."""
    pid = own_kafka.pid
    _produce(topic, b"before")
    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    assert own_kafka.pid != pid
    _produce(topic, b"after")
    records = read_topic(topic.bootstrap_servers, topic.name, 2, _DEADLINE_SECONDS)
    assert [(one.partition, one.offset, one.key, one.value) for one in records] == [
        (1, 0, b"key", b"before"),
        (1, 1, b"key", b"after"),
    ]
    assert records[0].headers == {"ce_id": b"\x01"}


@pytest.mark.connected
async def test_a_cancelled_start_leaves_nothing() -> None:
    """A cancellation ends the start at once, with its process and its folder."""
    server = KafkaServer()
    with trio.move_on_after(0.2) as scope:
        await trio.to_thread.run_sync(
            lambda: server.start(checkpoint=trio.from_thread.check_cancelled)
        )
    server.close()
    assert scope.cancelled_caught
    assert not server.running
    assert not server.data_dir.exists()


@pytest.mark.connected
def test_soketi_keeps_its_port_and_no_other_machine_reaches_it() -> None:
    """Every socket is bound to 127.0.0.1; a port that is taken is named."""
    with SoketiServer() as server:
        sockets = psutil.Process(server.pid).net_connections()
        assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}
        port = int(server.url.rpartition(":")[2])
        with (
            closing(SoketiServer(port=port)) as second,
            pytest.raises(PortTakenError, match=str(port)),
        ):
            second.start()
        server.kill()
        server.start()
        assert server.answers()
    assert not server.running


# One more start; what it shows changes with its version at most.
@pytest.mark.slow
@pytest.mark.connected
def test_the_registry_is_for_this_machine_alone_and_ends_with_its_block() -> None:
    """Every socket is bound to 127.0.0.1, and nothing of it is left afterwards."""
    with RegistryServer() as registry:
        process = psutil.Process(registry.pid)
        addresses = {one.laddr.ip for one in process.net_connections()}
        assert registry.answers()
    assert addresses == {"::ffff:127.0.0.1"}
    assert not registry.running
