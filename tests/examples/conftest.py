"""
What the examples read and run with: records, and a Java runtime with a compiler.

Owns the way from events to a topic through the bridge's own rooms, so that the
examples meet exactly what consumers will. What an example makes of it is for its
test to say.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from bridge.intake import Intake
from bridge.kafka.relay import Relay
from bridge.outbox import Outbox, OutboxDirectory
from bridge.pusher.protocol import ChannelEvent, decode
from bridge.settings import KafkaSettings, OutboxSettings
from tests.conftest import Topic
from tests.examples.jobs import Job
from tests.servers import downloads


Publish = Callable[[list[Job]], Awaitable[None]]

_DEADLINE_SECONDS = 20.0


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the compiler and the jars outside of any test's deadline."""
    if session.config.option.collectonly:
        return
    if any("java_tools" in getattr(item, "fixturenames", ()) for item in session.items):
        # Should it fail, the tests that need them fail with its message.
        with contextlib.suppress(downloads.FetchError):
            downloads.fetch_java_compiler()
            downloads.fetch_kafka()


@pytest.fixture(scope="session")
def java_tools() -> tuple[Path, list[Path]]:
    """The jar of a compiler, and the jars that the Java example names."""
    try:
        compiler, everything = (
            downloads.fetch_java_compiler(),
            downloads.fetch_kafka(),
        )
    except downloads.FetchError as error:
        pytest.fail(str(error), pytrace=False)
    folder = Path(everything.rpartition(":")[2]).parent
    # The two that it names, and what they depend on.
    clients = ["kafka-clients", "slf4j-api"]
    jackson = [f"jackson-{part}" for part in ("databind", "core", "annotations")]
    return compiler, [
        jar for name in clients + jackson for jar in folder.glob(f"{name}-[0-9]*")
    ]


@pytest.fixture
async def publish(topic: Topic, tmp_path: Path) -> AsyncIterator[Publish]:
    """Give a function that takes jobs' statuses all the way to the topic."""
    settings = OutboxSettings(dir=tmp_path / "outbox")
    with OutboxDirectory(settings.dir) as directory:
        outbox = Outbox(directory, settings)
        relay = Relay(
            KafkaSettings(bootstrap_servers=topic.bootstrap_servers),
            [[topic.name], [topic.dead_letter]],
            outbox,
        )
        intake = Intake(
            ce_source="https://api.dryapi.dev/clients/client-42",
            topic=topic.name,
            dead_letter_topic=topic.dead_letter,
            offer=outbox.offer,
        )

        async def publish(jobs: list[Job]) -> None:
            statistics = outbox.statistics
            acknowledged = statistics.acknowledged + len(jobs)
            intake.accept([_event(job) for job in jobs], _now_us())
            with trio.fail_after(_DEADLINE_SECONDS):
                # Another thread changes what is looked at.
                while statistics.acknowledged < acknowledged:  # noqa: ASYNC110
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, outbox.run)
            nursery.start_soon(relay.run)
            yield publish
            nursery.cancel_scope.cancel()
            outbox.stop()


def _event(job: Job) -> ChannelEvent:
    """Make the event of a frame such as soketi sends it."""
    frame = {
        "event": "request.status.updated",
        "channel": "private-client.client-42",
        "data": json.dumps(job, separators=(",", ":")),
    }
    event = decode(json.dumps(frame))
    assert isinstance(event, ChannelEvent)
    return event


def _now_us() -> int:
    return time.time_ns() // 1000
