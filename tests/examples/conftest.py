"""What the examples read and run with: records, and a Java runtime with a compiler."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Topic
from tests.examples.rooms import Publish, Rooms, open_rooms
from tests.kit import cache, downloads


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download the compiler and the jars outside of any test's deadline."""
    if session.config.option.collectonly:
        return
    if any("java_tools" in getattr(item, "fixturenames", ()) for item in session.items):
        # Should it fail, the tests that need them fail with its message.
        with contextlib.suppress(cache.FetchError):
            downloads.fetch_java_compiler()
            downloads.fetch_kafka()


@pytest.fixture(scope="session")
def java_tools() -> tuple[Path, list[Path]]:
    """The jar of a compiler, and the jars that the Java example names."""
    try:
        compiler = downloads.fetch_java_compiler()
        everything = downloads.fetch_kafka()
    except cache.FetchError as error:
        pytest.fail(str(error), pytrace=False)
    folder = Path(everything.rpartition(":")[2]).parent
    # The two that it names, and what they depend on.
    clients = ["kafka-clients", "slf4j-api"]
    jackson = [f"jackson-{part}" for part in ("databind", "core", "annotations")]
    return compiler, [
        jar for name in clients + jackson for jar in folder.glob(f"{name}-[0-9]*")
    ]


@pytest.fixture
async def rooms(topic: Topic, tmp_path: Path) -> AsyncIterator[Rooms]:
    """The bridge's own rooms, between events and the topic."""
    async with open_rooms(topic, tmp_path / "outbox") as opened:
        yield opened


@pytest.fixture
def publish(rooms: Rooms) -> Publish:
    """Give a function that takes jobs' statuses all the way to the topic."""
    return rooms.publish
