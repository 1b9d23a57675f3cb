"""How a start ends that never worked, and what keeps it going."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import trio

from bridge.settings import KafkaSettings
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    check_topic,
    read_back,
    rig,
    send_nothing,
    sending,
    settings_for,
    until,
)
from tests.kit.broker import KafkaBroker


async def test_a_missing_topic_is_waited_for_while_rows_wait(
    kafka: KafkaBroker, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are worth more than a quick end: they go when the topic is there again."""
    async with sending(topic, tmp_path) as running:
        send_nothing(monkeypatch)
        running.offer(topic.name, range(10))
        await running.committed(10)
    monkeypatch.undo()
    await trio.to_thread.run_sync(kafka.delete_topics, topic.name)
    async with rig(settings_for(topic), [topic.name], tmp_path) as running:
        running.offer(topic.name, range(10, 20))
        await until(lambda: running.relay.statistics.last_error is not None)
        assert not running.relay.statistics.ever_connected
        await trio.to_thread.run_sync(kafka.create_topic, topic.name, topic.partitions)
        await running.all_sent(topic.name, 20)
    check_topic(await read_back(topic), range(20))


async def test_a_resolver_that_hangs_holds_no_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a broker is being looked up when the relay is told to end."""
    looked, answers = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        looked.set()
        answers.wait(DEADLINE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    settings = KafkaSettings(bootstrap_servers="kafka.invalid:9092")
    async with rig(settings, ["jobs"], tmp_path) as running:
        await until(looked.is_set)
        running.relay.abort()
        try:
            # A client that is being started gets a second or two.
            with trio.fail_after(10.0):
                await running.ended.wait()
        finally:
            answers.set()
