"""The real servers start, keep their addresses, and end without leaving anything."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import trio
import trio.from_thread
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit import broker, publisher
from tests.kit.broker import BrokerError, KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer
from tests.kit.process import PortTakenError, ProcessError
from tests.kit.publisher import App, Soketi, SoketiError, existing_soketi
from tests.kit.reader import ReadTimeoutError, read_topic
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
    with pytest.raises(ReadTimeoutError, match="2 records read, 3 expected"):
        read_topic(topic.bootstrap_servers, topic.name, 3, 1.5)


async def test_a_paused_broker_answers_no_client(own_kafka: KafkaServer) -> None:
    """It goes on when it is resumed."""
    own_kafka.pause()
    impatient = KafkaBroker(own_kafka.bootstrap_servers, deadline_seconds=1)
    with pytest.raises(BrokerError, match="no Kafka at"):
        await trio.to_thread.run_sync(impatient.check)
    own_kafka.resume()
    await trio.to_thread.run_sync(own_kafka.check)


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
def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A Kafka that can't start says why, in its own words."""
    (tmp_path / "node-1" / "data").mkdir(parents=True)
    (tmp_path / "node-1" / "data" / "meta.properties").write_text("version=9\n")
    with pytest.raises(ProcessError, match="ended before it was ready") as caught:
        KafkaServer(data_dir=tmp_path).start()
    assert "meta.properties" in caught.value.tail
    assert caught.value.exit_code not in {None, -signal.SIGKILL}


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


async def test_a_wrong_secret_is_refused(soketi: Soketi) -> None:
    """The error has soketi's answer, and not the secret."""
    stranger = Soketi(soketi.url, App(soketi.app.id, soketi.app.key, "wrong-secret"))
    with pytest.raises(SoketiError) as caught:
        await stranger.publish("private-client.7", "job.status", "x")
    assert caught.value.code == 401
    assert "wrong-secret" not in f"{caught.value} {stranger.app!r}"


def test_existing_servers_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their variables alone decide whether there are any."""
    monkeypatch.setenv(broker.EXISTING_VARIABLE, "broker:9092")
    kafka = existing_kafka()
    assert kafka is not None
    assert kafka.bootstrap_servers == "broker:9092"
    monkeypatch.setenv(publisher.EXISTING_VARIABLE, "wss://soketi.example:6001/")
    monkeypatch.setenv(publisher.APP_VARIABLE, "1:k:s")
    soketi = existing_soketi()
    assert soketi is not None
    assert (soketi.url, soketi.app) == ("wss://soketi.example:6001", App("1", "k", "s"))
    monkeypatch.setenv(publisher.APP_VARIABLE, "1:k")
    with pytest.raises(publisher.SoketiSettingError, match=publisher.APP_VARIABLE):
        existing_soketi()


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
