"""What `kafka`, `broker` and `reader` promise, shown on a real Kafka.

No other room's behaviour is tested here, the bridge's least of all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio
from confluent_kafka import Producer

from tests.conftest import Topic
from tests.kit.broker import (
    EXISTING_VARIABLE,
    BrokerError,
    KafkaBroker,
    existing_kafka,
)
from tests.kit.downloads import CACHE_VARIABLE
from tests.kit.kafka import KafkaServer, new_cluster_id, start_kafka
from tests.kit.process import ProcessError
from tests.kit.reader import ReadTimeoutError, Record, read_topic


_ROOT = Path(__file__).parents[2]  # where `tests` can be imported from

_DEADLINE_SECONDS = 20.0


def _produce(
    servers: str,
    topic: str,
    records: Sequence[tuple[int, bytes, bytes | None]],
    headers: list[tuple[str, bytes]] | None = None,
) -> None:
    """Write (partition, key, value) records, and wait until all are acknowledged."""
    with closing(Producer({"bootstrap.servers": servers, "acks": "all"})) as producer:
        for partition, key, value in records:
            # Typed for text alone, although librdkafka takes bytes.
            producer.produce(topic, value, key, partition, headers=list(headers or []))
        assert producer.flush(_DEADLINE_SECONDS) == 0


def _contents(records: list[Record]) -> list[tuple[int, int, bytes | None]]:
    return [(record.partition, record.offset, record.value) for record in records]


def test_record_comes_out_as_it_went_in(topic: Topic) -> None:
    """A record's partition, key, value, header and time are read back unchanged."""
    before = int(time.time() * 1000)
    _produce(
        topic.bootstrap_servers,
        topic.name,
        [(1, b"key", b"\x00\xffvalue"), (1, b"gone", None)],
        [("ce_id", b"\x01\x02")],
    )

    first, second = read_topic(
        topic.bootstrap_servers, topic.name, 2, _DEADLINE_SECONDS
    )

    assert (first.partition, first.offset) == (1, 0)
    assert (first.key, first.value) == (b"key", b"\x00\xffvalue")
    assert first.headers == {"ce_id": b"\x01\x02"}
    assert before - 1000 <= first.timestamp <= int(time.time() * 1000) + 1000
    assert (second.offset, second.key, second.value) == (1, b"gone", None)


def test_reader_reads_all_partitions_in_order(topic: Topic) -> None:
    """1,500 records over three partitions come back whole, by partition and offset."""
    sent = [(number % 3, b"k", str(number).encode()) for number in range(1500)]
    _produce(topic.bootstrap_servers, topic.name, sent)

    records = read_topic(topic.bootstrap_servers, topic.name, None, _DEADLINE_SECONDS)

    assert _contents(records) == [
        (partition, offset, str(offset * 3 + partition).encode())
        for partition in range(3)
        for offset in range(500)
    ]


def test_reader_sees_one_too_many(topic: Topic) -> None:
    """Records beyond the expected number are returned as well."""
    _produce(topic.bootstrap_servers, topic.name, [(0, b"k", b"1"), (0, b"k", b"1")])

    records = read_topic(topic.bootstrap_servers, topic.name, 1, _DEADLINE_SECONDS)

    assert len(records) == 2


def test_reader_tells_what_is_missing(topic: Topic) -> None:
    """A number that is not reached in time is an error that carries what was read."""
    _produce(topic.bootstrap_servers, topic.name, [(2, b"k", b"only")])

    with pytest.raises(ReadTimeoutError, match="1 records read, 2 expected") as caught:
        read_topic(topic.bootstrap_servers, topic.name, 2, 1.5)

    assert _contents(caught.value.records) == [(2, 0, b"only")]


def test_reader_refuses_two_headers_of_one_name(topic: Topic) -> None:
    """A duplicate header is an error, since a dictionary would hide it."""
    _produce(
        topic.bootstrap_servers,
        topic.name,
        [(0, b"k", b"v")],
        [("ce_id", b"1"), ("ce_id", b"2")],
    )

    with pytest.raises(ValueError, match="two headers"):
        read_topic(topic.bootstrap_servers, topic.name, 1, _DEADLINE_SECONDS)


def test_topics_are_not_created_by_asking(own_kafka: KafkaServer) -> None:
    """Reading or asking for a missing topic doesn't create it."""
    servers = own_kafka.bootstrap_servers
    for _ in range(2):
        with pytest.raises(Exception, match="UNKNOWN_TOPIC_OR_PART"):
            read_topic(servers, "nobody-made-this", None, _DEADLINE_SECONDS)


def test_topic_exists_once(kafka: KafkaBroker, topic: Topic) -> None:
    """Creating a topic a second time is refused with the broker's reason."""
    with pytest.raises(BrokerError, match="already exists"):
        kafka.create_topic(topic.name, 1)


def test_topic_takes_settings(kafka: KafkaBroker, topic: Topic) -> None:
    """A topic's own settings reach the broker, which refuses wrong ones."""
    with pytest.raises(BrokerError, match="nonsense"):
        kafka.create_topic(f"{topic.name}-x", 1, {"cleanup.policy": "nonsense"})


def test_killed_broker_keeps_what_it_acknowledged(
    own_kafka: KafkaServer, topic: Topic
) -> None:
    """After SIGKILL and a start, records and port are the same, the process is not."""
    pid = own_kafka.pid
    _produce(topic.bootstrap_servers, topic.name, [(0, b"k", b"before")])

    own_kafka.kill()
    assert not own_kafka.running
    with pytest.raises(ProcessError, match="is not running"):
        _ = own_kafka.pid
    own_kafka.start()

    assert own_kafka.pid != pid
    _produce(topic.bootstrap_servers, topic.name, [(0, b"k", b"after")])
    records = read_topic(topic.bootstrap_servers, topic.name, 2, _DEADLINE_SECONDS)
    assert _contents(records) == [(0, 0, b"before"), (0, 1, b"after")]


def test_stopped_broker_comes_back(own_kafka: KafkaServer, topic: Topic) -> None:
    """SIGTERM ends the broker within its grace, and a start brings its data back."""
    _produce(topic.bootstrap_servers, topic.name, [(0, b"k", b"kept")])
    started = time.monotonic()
    own_kafka.stop()
    assert time.monotonic() - started < 5
    assert not own_kafka.running

    own_kafka.start()

    records = read_topic(topic.bootstrap_servers, topic.name, 1, _DEADLINE_SECONDS)
    assert _contents(records) == [(0, 0, b"kept")]


async def test_paused_broker_answers_nobody(own_kafka: KafkaServer) -> None:
    """A paused broker keeps its port but answers nothing until it is resumed."""
    own_kafka.pause()
    port = int(own_kafka.bootstrap_servers.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass  # the kernel still takes connections for it
    broker = KafkaBroker(own_kafka.bootstrap_servers)
    with trio.move_on_after(1) as scope:
        await trio.to_thread.run_sync(broker.check, abandon_on_cancel=True)
    assert scope.cancelled_caught

    own_kafka.resume()

    with trio.fail_after(_DEADLINE_SECONDS):
        await trio.to_thread.run_sync(broker.check)


def test_unreachable_broker_is_one_line() -> None:
    """Asking a broker that isn't there names its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BrokerError, match=f"no Kafka at {address}"):
            KafkaBroker(address, deadline_seconds=0.5).check()


def test_existing_broker_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BRIDGE_TEST_KAFKA alone decides whether there is an existing broker."""
    monkeypatch.delenv(EXISTING_VARIABLE, raising=False)
    assert existing_kafka() is None

    monkeypatch.setenv(EXISTING_VARIABLE, "broker:9092")

    existing = existing_kafka()
    assert existing is not None
    assert existing.bootstrap_servers == "broker:9092"


def test_existing_broker_is_used(own_kafka: KafkaServer) -> None:
    """With BRIDGE_TEST_KAFKA tests run against it, and no other is fetched."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", __file__]
    run = subprocess.run(
        [*command, "-k", "comes_out_as_it_went_in"],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        # With this cache a server of its own would have to be fetched.
        env={
            **os.environ,
            EXISTING_VARIABLE: own_kafka.bootstrap_servers,
            CACHE_VARIABLE: os.devnull,
        },
        timeout=50,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


@pytest.mark.connected
@pytest.mark.slow
async def test_three_nodes_survive_the_loss_of_one(tmp_path: Path) -> None:
    """Three nodes take and keep records while one is killed and when it returns."""
    async with start_kafka(nodes=3) as kafka:
        servers, folder = kafka.bootstrap_servers, kafka.data_dir
        assert len(servers.split(",")) == len(set(kafka.pids)) == 3
        await trio.to_thread.run_sync(kafka.create_topic, "jobs", 3)
        kafka.kill(2)
        sent = [(partition, b"k", b"v") for partition in range(3)]
        await trio.to_thread.run_sync(lambda: _produce(servers, "jobs", sent))
        await trio.to_thread.run_sync(kafka.start, 2)
        records = await trio.to_thread.run_sync(
            read_topic, servers, "jobs", 3, _DEADLINE_SECONDS
        )
        assert [record.partition for record in records] == [0, 1, 2]
        assert folder.exists()
    assert not kafka.running
    assert not folder.exists()


@pytest.mark.connected
@pytest.mark.slow
def test_data_directory_outlives_its_server(tmp_path: Path) -> None:
    """A second server on the first one's folder serves the first one's records."""
    with KafkaServer(data_dir=tmp_path) as first:
        first.create_topic("jobs", 1)
        _produce(first.bootstrap_servers, "jobs", [(0, b"k", b"kept")])

    with KafkaServer(data_dir=tmp_path) as second:
        records = read_topic(second.bootstrap_servers, "jobs", 1, _DEADLINE_SECONDS)

    assert _contents(records) == [(0, 0, b"kept")]


@pytest.mark.connected
async def test_cancelled_start_leaves_nothing() -> None:
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
def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A Kafka that can't start says why, in its own words."""
    (tmp_path / "node-1" / "data").mkdir(parents=True)
    (tmp_path / "node-1" / "data" / "meta.properties").write_text("version=9\n")

    server = KafkaServer(data_dir=tmp_path)

    with pytest.raises(ProcessError, match="ended before it was ready") as caught:
        server.start()
    assert "meta.properties" in caught.value.tail
    assert caught.value.exit_code not in {None, -signal.SIGKILL}


def test_no_cluster_is_named_like_a_flag() -> None:
    """An id that begins with a dash, as one in 64 would, is not taken."""
    dashed, plain = uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(int=7)
    made = iter([dashed, plain])

    assert new_cluster_id(lambda: next(made)) == "AAAAAAAAAAAAAAAAAAAABw"
