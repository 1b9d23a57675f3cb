"""
What every run stands on: topics and a folder of its own, and processes that end.

Owns their begin and their end. What happens in between is for a course.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import PARTITIONS, Stage
from benchmarks.traffic import Traffic
from benchmarks.upstream import Upstream
from tests.kit.broker import KafkaBroker
from tests.kit.process import ChildProcess, start_all, stop_all


__all__ = ["running", "staged"]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@contextmanager
def staged(
    kafka: KafkaBroker,
    upstream: Upstream,
    traffic: Traffic,
    folder: Path,
) -> Iterator[Stage]:
    """
    Have what a contender needs, topics of its own among it, inside the block.

    Args:
        kafka: The broker.
        upstream: Where events come from.
        traffic: The events that will come.
        folder: Where its files get a folder.

    Raises:
        BrokerError: The broker refused a topic.
    """
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    files = folder / topic
    files.mkdir()
    topics = {topic: PARTITIONS, f"{topic}.dlq": 1, f"{topic}.gaps": 1}
    for name, count in topics.items():
        kafka.create_topic(name, count)
    try:
        yield Stage(upstream, kafka.bootstrap_servers, topic, traffic, files)
    finally:
        kafka.delete_topics(*topics)
        shutil.rmtree(files, ignore_errors=True)


@contextmanager
def running(child: ChildProcess) -> Iterator[ChildProcess]:
    """
    Have a process running and ready inside the block.

    Raises:
        ProcessError: It didn't start.
    """
    start_all([child], deadline_seconds=_START_SECONDS)
    try:
        yield child
    finally:
        stop_all([child], grace_seconds=_STOP_SECONDS)
