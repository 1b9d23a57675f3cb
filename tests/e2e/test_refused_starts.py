"""What is wrong at a start ends it with a code and a sentence, or is waited for."""

from __future__ import annotations

import sqlite3  # noqa: TID251 - plays another program
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.jobs import job
from tests.e2e.scene import Scene
from tests.kit.bridge_process import BridgeProcess
from tests.kit.kafka import KafkaServer
from tests.kit.process import free_ports


# Even root may not write where the mode forbids it, once this capability is out
# of the bounding set (prctl 24, capability 1; linux/prctl.h, linux/capability.h).
_WITHOUT_OVERRIDE = """
import ctypes, os, sys
if os.geteuid() == 0:
    assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


# Settings, exit code, and words of the sentence. A port that is free and a topic that
# isn't there are put in for `{port}` and `{topic}`.
_ENDS: dict[str, tuple[Mapping[str, object], int, tuple[str, ...]]] = {
    "a wrong token": (
        {"api_token": "canary-wrong"},
        3,
        ("HTTP 401", "BRIDGE_API_TOKEN"),
    ),
    "a wrong client id": (
        {"client_id": "another-client"},
        3,
        ("HTTP 403", "BRIDGE_CLIENT_ID"),
    ),
    "a wrong app key": (
        {"pusher_app_key": "no-such-key"},
        3,
        ("no such app", "BRIDGE_PUSHER_APP_KEY"),
    ),
    "no topic": (
        {
            "topic": "no-such",
            "topics_dead_letters": "{topic}.dlq",
            "topics_gaps": "{topic}.gaps",
        },
        4,
        ("Kafka has no topic no-such", "BRIDGE_KAFKA_CREATE_TOPICS"),
    ),
    "no topic of previews": (
        {"previews": "topic", "kafka_start_timeout_seconds": 5},
        4,
        ("{topic}.previews", "kafka.create_topics"),
    ),
}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (place not in {0, 3}))
        for place, name in enumerate(_ENDS)
    ],
)
async def test_a_start_that_cannot_work_ends(
    scene: Scene, dryapi: str, wrong: str
) -> None:
    """With its own exit code, and one sentence that names the setting, no secret."""
    settings, code, words = _ENDS[wrong]
    (port,) = free_ports(1)

    def filled(text: object) -> str:
        return str(text).format(port=port, topic=scene.topic.name)

    changed: dict[str, Any] = {name: filled(value) for name, value in settings.items()}
    topic = changed.pop("topic", None)
    bridge = scene.bridge(dryapi, topic=topic, **changed)
    bridge.start()
    sentence = await bridge.wait_refusal(code)
    for each in words:
        assert filled(each) in sentence
    assert "canary" not in sentence
    # Nothing was read, and it may not have come to say that it listens.
    await scene.end(gaps=None, open_gaps=None, waiting=None, sources=None)


async def test_a_second_bridge_on_an_outbox_ends_and_names_the_first(
    scene: Scene, dryapi: str
) -> None:
    """Exit code 2 with the holder's pid; the first one doesn't notice."""
    first = scene.bridge(dryapi)
    await first.start_and_wait()
    second = scene.bridge(dryapi, outbox_dir=first.outbox)
    second.start()
    sentence = await second.wait_refusal(2)
    assert f"{first.outbox} is in use by process {first.pid}" in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence
    await scene.finish(first)
    await scene.end()


def _read_only(folder: Path) -> Path:
    directory = folder / "read-only"
    directory.mkdir(mode=0o500)
    return directory


def _file(folder: Path) -> Path:
    file = folder / "file"
    file.touch()
    return file


def _database(folder: Path) -> Path:
    """Have another program's database where the outbox's would be."""
    directory = folder / "theirs"
    directory.mkdir()
    with closing(sqlite3.connect(directory / "outbox.sqlite3")) as other:
        other.execute("CREATE TABLE theirs (value)")
        other.commit()
    return directory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="calls Linux's prctl")
@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (_read_only, 2, "{place}/lock can't be opened (Permission denied)"),
        (_file, 2, "{place} can't be used"),
        (_database, 1, "{place}/outbox.sqlite3 is a database, but no outbox"),
    ],
)
async def test_a_place_that_is_no_outboxs_ends_the_start(
    scene: Scene,
    dryapi: str,
    tmp_path: Path,
    *,
    make: Callable[[Path], Path],
    code: int,
    words: str,
) -> None:
    """The sentence names the place and its setting, and nothing is touched."""
    place = make(tmp_path)
    before = _contents(place)
    bridge = scene.bridge(
        dryapi, wrapper=[sys.executable, "-c", _WITHOUT_OVERRIDE], outbox_dir=place
    )
    bridge.start()
    sentence = await bridge.wait_refusal(code)
    assert words.format(place=place) in sentence
    assert "BRIDGE_OUTBOX_DIR" in sentence
    assert _contents(place) == before
    await scene.end(gaps=())


def _contents(place: Path) -> dict[str, bytes]:
    files = sorted(place.glob("*")) if place.is_dir() else [place]
    return {file.name: file.read_bytes() for file in files if file.name != "lock"}


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"Not a database.\n" * 1000, b"SQLite format"])
async def test_a_file_that_is_no_outbox_is_set_aside_as_it_is(
    scene: Scene, dryapi: str, content: bytes
) -> None:
    """The bridge says where it put it, and works with a new one."""
    bridge = scene.bridge(dryapi)
    bridge.outbox.mkdir()
    (bridge.outbox / "outbox.sqlite3").write_bytes(content)
    await bridge.start_and_wait()
    reported = await bridge.wait_logged("outbox.damaged")
    await scene.finish(bridge)
    await scene.end(gaps=None)
    # SQLite's own files may lie beside it.
    aside = {str(path): path for path in bridge.outbox.glob("*.damaged-*")}
    assert aside[reported["set_aside"]].read_bytes() == content


@pytest.mark.slow
async def test_a_pusher_server_that_cannot_be_used_is_tried_again(
    scene: Scene, dryapi: str
) -> None:
    """It says why, is alive, not ready, and stops cleanly."""
    (free,) = free_ports(1)
    bridge = scene.bridge(dryapi, pusher_url=f"ws://127.0.0.1:{free}")
    bridge.start()
    await bridge.wait_metrics(lambda now: now.total("bridge_connects_total") >= 3)
    (failed, *_) = bridge.logged("session.failed")
    assert f"can't reach 127.0.0.1:{free}" in failed["reason"]
    await _check_waits(bridge)
    # Without it Kafka was not reached yet, and the next start writes it.
    await scene.bounds(1)
    await scene.end(open_gaps=1)
    assert bridge.sentences == []


async def _check_waits(bridge: BridgeProcess) -> None:
    live, ready = await bridge.ask("/livez"), await bridge.ask("/readyz")
    assert live is not None
    assert ready is not None
    assert (live.status, ready.status) == (200, 503)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_brokers_that_do_not_answer_are_waited_for(
    scene: Scene, dryapi: str, own_kafka: KafkaServer
) -> None:
    """A new outbox reads nothing before they do; one that knows them reads at once."""
    own_kafka.stop()
    timeout_seconds = 0.5
    bridge = scene.bridge(dryapi, kafka_start_timeout_seconds=timeout_seconds)
    bridge.start()
    waits = await bridge.wait_logged("kafka.unavailable")
    assert scene.topic.bootstrap_servers in waits["error"]
    # What would end it has to pass: the timeout and the pause between two tries.
    await trio.sleep(timeout_seconds + 4)
    now = await bridge.metrics()
    assert now.total("bridge_connects_total") == 0
    await _check_waits(bridge)
    own_kafka.start()
    await bridge.wait_ready()
    # Else the next start has this gap's last record to write, too.
    await bridge.wait_logged("gap.resolved")
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    await scene.stop(bridge)

    own_kafka.stop()
    bridge.start()
    waits = await bridge.wait_logged("kafka.unavailable")
    await bridge.wait_answer("/readyz", lambda now: bool(now.check("subscribed")["ok"]))
    async with scene.load() as load:
        await load.run_together([job(3) for _ in range(20)])
        await trio.sleep(timeout_seconds + 4)
        await load.run_together([job(3) for _ in range(20)])
    # The start's gap has opened, closed and was settled.
    now = await bridge.wait_metrics(lambda now: now.waiting == load.count + 3)
    assert now.committed == load.count
    ready = await bridge.ask("/readyz")
    assert ready is not None
    assert ready.status == 503
    assert not ready.check("kafka-reached")["ok"]

    own_kafka.start()
    await bridge.wait_metrics(lambda now: now.waiting == 0)
    await bridge.wait_ready()
    await scene.end(gaps=["first_start", "stopped"])


@pytest.mark.slow
async def test_missing_topics_are_made_where_that_is_wanted(
    scene: Scene, dryapi: str
) -> None:
    """With `kafka.create_topics` all topics are there before the bridge is ready."""
    name = f"{scene.topic.name}.new"
    scene.topic = replace(
        scene.topic, name=name, dead_letter=f"{name}.dlq", gaps=f"{name}.gaps"
    )
    bridge = scene.bridge(
        dryapi,
        kafka_create_topics="true",
        kafka_partitions=2,
        kafka_replication_factor=1,
    )
    await bridge.start_and_wait()
    made = {each["topic"]: each for each in bridge.logged("topic.created")}
    assert made.keys() == {name, f"{name}.dlq", f"{name}.gaps"}
    assert made[name]["partitions"] == 2
    await scene.finish(bridge)
    await scene.end()
