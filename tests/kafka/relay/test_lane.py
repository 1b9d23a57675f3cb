"""One lane among others: its batches fail again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from bridge.outbox.partitioner import partitioner
from tests.conftest import Topic
from tests.kafka.relay.faults import Forgery, forge_answers
from tests.kafka.relay.relaying import (
    feed,
    opened,
    rig,
    settings_for,
    until,
)


async def test_other_lanes_go_on_beside_a_failing_one(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one partition fails again and again, the others' rows arrive."""
    forge_answers(
        monkeypatch, Forgery(topic.name, 0, 45, times=1_000_000, appended=False)
    )
    where = partitioner(topic.partitions)
    others = sum(where(b"job-%d" % (number % 20)) != 0 for number in range(1_000))
    with structlog.testing.capture_logs() as lines:
        async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
            await opened(running, topic)
            await feed(running, topic, 1_000)
            await running.all_sent(topic.name, others)
            await until(lambda: running.relay.statistics.producer_recycles >= 3)
            assert running.sent(topic.name) == others
            assert not running.ended.is_set()
    failures = [line for line in lines if line["event"] == "lane.failed"]
    assert len(failures) == 1
    assert failures[0]["partition"] == 0
    async with rig(settings_for(topic), [[topic.name]], tmp_path) as running:
        # The forged partition's rows are still in the outbox.
        assert running.outbox.statistics.rows_at_start == 1_000 - others
