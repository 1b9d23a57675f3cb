"""Topics that don't fit at a start, and topics that change under a working bridge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from bridge.errors import KafkaRefusedError
from bridge.kafka.topics import TopicNeeds, TopicRole
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DEADLINE_SECONDS,
    alter,
    check_topic,
    needs_of,
    opened,
    read_back,
    rig,
    settings_for,
    topics_of,
    until,
)


def told(lines: Iterable[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    """Give the log lines of an event."""
    return [line for line in lines if line["event"] == event]


async def test_a_first_start_says_everything_that_is_wrong_at_once(
    topic: Topic, tmp_path: Path
) -> None:
    """Two topics are missing and one is too small: one error and one table say so."""
    needs = needs_of(topic, 2_000_000)
    absent = [f"{topic.name}-a", f"{topic.name}-b"]
    needs |= {name: TopicNeeds(TopicRole.PREVIEWS, 1_000) for name in absent}
    topics = [*topics_of(topic), *absent]
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), topics, tmp_path, needs=needs) as running:
            with trio.fail_after(DEADLINE_SECONDS):
                await running.ended.wait()
            (error,) = running.errors
    assert isinstance(error, KafkaRefusedError)
    text = str(error)
    assert f"has no topics {absent[0]} and {absent[1]}, or this user" in text
    for name in (topic.name, topic.dead_letter):
        assert (
            f"The topic {name} has max.message.bytes 1048588, and 2008192 or more is"
            " needed."
        ) in text
        assert f"--entity-name {name} --add-config max.message.bytes=2008192" in text
    (line,) = told(lines, "topics.checked")
    assert line["log_level"] == "warning"
    assert line["missing"] == 4
    assert {row["topic"] for row in line["findings"]} == {*needs}


async def test_what_changes_while_it_runs_is_told_and_followed(
    topic: Topic, tmp_path: Path
) -> None:
    """A policy is only reported; for a new limit the topic is opened again."""
    needs = needs_of(topic)
    settings = settings_for(topic, topics_check_seconds=0.1)
    with structlog.testing.capture_logs() as lines:
        async with rig(settings, topics_of(topic), tmp_path, needs=needs) as running:
            await opened(running)
            running.offer(topic.name, range(100))
            await running.all_sent(topic.name, 100)
            await trio.to_thread.run_sync(
                partial(alter, topic, topic.gaps, cleanup_policy="compact")
            )
            await until(lambda: told(lines, "topics.changed"))
            assert told(lines, "partitions.reopen") == []
            await trio.to_thread.run_sync(
                partial(alter, topic, max_message_bytes="20000")
            )
            await until(lambda: told(lines, "partitions.reopen"))
            running.offer(topic.name, range(100, 200), 1000)
            await running.all_sent(topic.name, 200)
            findings = running.relay.statistics.topic_findings
            assert running.errors == []
    gaps, events = told(lines, "topics.changed")[:2]
    row, retention = gaps["findings"]
    assert (retention["what"], retention["verdict"]) == ("retention.ms", "fine")
    assert (row["topic"], row["what"], row["found"]) == (
        topic.gaps,
        "cleanup.policy",
        "compact",
    )
    assert row["verdict"] == "dangerous"
    assert "--add-config cleanup.policy=delete" in row["remedy"]
    (row,) = events["findings"]
    assert (row["what"], row["found"], row["verdict"]) == (
        "max.message.bytes",
        "20000",
        "missing",
    )
    assert {one.found for one in findings[topic.gaps] if one.what == row["what"]}
    # Batches fit the limit at once: none was refused.
    assert told(lines, "partition.failed") == []
    check_topic(await read_back(topic), range(200))
