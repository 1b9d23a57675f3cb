"""A disk that hangs: the Kafka thread waits for it, the trio thread doesn't."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from bridge.outbox import Outbox
from bridge.outbox.values import Placed
from tests.conftest import Topic
from tests.kafka.relay.relaying import (
    DELIVERIES,
    Delivery,
    check_topic,
    read_back,
    sending,
    until,
)


_STALL_SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_a_commit_that_stalls_loses_nothing_and_blocks_no_reading(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivery: Delivery
) -> None:
    """Longer than a request and a transaction may take, with batches on their way."""
    commit, stalls = Outbox.commit, [_STALL_SECONDS]

    def stall(outbox: Outbox) -> list[Placed]:
        if stalls and outbox.statistics.committed > 500:
            time.sleep(stalls.pop())
        return commit(outbox)

    async with sending(topic, tmp_path, delivery=delivery) as running:
        monkeypatch.setattr(Outbox, "commit", stall)
        longest, number, silent = 0.0, 0, 0.0
        began = trio.current_time()
        while trio.current_time() < began + _STALL_SECONDS + 5:
            before = trio.current_time()
            running.offer(topic.name, range(number, number + 10))
            number += 10
            await trio.sleep(0.01)
            longest = max(longest, trio.current_time() - before)
            beat = running.relay.statistics.last_beat
            silent = max(silent, time.monotonic() - beat)
        assert stalls == []
        # The session would have read on; health sees that the other thread doesn't.
        assert longest < 2
        assert silent > _STALL_SECONDS - 5
        await running.all_sent(topic.name, number)
        await until(lambda: running.relay.statistics.connected)
        assert running.outbox.statistics.dropped == {"overflow": 0, "outbox_full": 0}
        assert running.errors == []
    check_topic(await read_back(topic), range(number))
