"""What a scan makes of answers that a real broker gives too rarely to wait for."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the scanner's thread runs it
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.errors import KafkaError, KafkaUnreachableError
from bridge.kafka.reading import scanning
from bridge.kafka.reading.batches import PartitionDecoder
from bridge.kafka.reading.scanned import Scanned
from bridge.kafka.reading.scanning import Scanning
from bridge.settings import KafkaSettings
from tests.kafka.reading.test_batches import batch


END = 4

# Of a fetch: partition, error, high watermark, stable end, log start, aborted
# transactions, replica, batches.
NOTHING = (0, 0, END, END, 0, None, -1, b"")
FIRST_TWO: tuple[Any, ...] = (0, 0, END, END, 0, [], -1, batch(0, [0, 1]))
NOT_LEADER = (0, 6, -1, -1, -1, None, -1, b"")


class Answering:
    """
    A client whose one broker answers as it is told to, the last one for ever.

    Args:
        answers: A partition's part, or how long the broker holds the client back.
    """

    def __init__(self, *answers: tuple[Any, ...] | int) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.refreshed = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda _lane: 1)

    def force_metadata_update(self) -> None:
        """Count."""
        self.refreshed += 1

    async def send(self, _node: int, _request: object) -> object:
        """Answer."""
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, int):
            return SimpleNamespace(
                throttle_time_ms=answer, topics=[("jobs", [NOTHING])]
            )
        return SimpleNamespace(throttle_time_ms=0, topics=[("jobs", [answer])])


async def read(client: Answering) -> tuple[list[int], int]:
    """Scan one partition; give the offsets that have a record, and the absent."""
    told = SimpleNamespace(put=lambda _progress: None, room=None)
    scan = Scanning(
        KafkaSettings(),
        "jobs",
        since_ms=None,
        committed_only=True,
        begin=lambda _extents: lambda _part: None,
        handover=told,  # type: ignore[arg-type]
    )
    decoder = PartitionDecoder(0, END, committed_only=True)
    scan._open[0] = decoder
    scan._gone_before[0] = 0
    offsets: list[int] = []

    def take(part: Scanned) -> None:
        offsets.extend(record[0] for record in part.records)

    await scan._read(client, take)
    return offsets, decoder.absent


def run(client: Answering) -> tuple[list[int], int]:
    """Scan as the scanner's thread does."""
    return asyncio.run(read(client))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short."""
    monkeypatch.setattr(scanning, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(scanning, "_SILENT_SECONDS", 0.3)


def test_a_tail_that_was_compacted_away_ends_the_scan() -> None:
    """Two answers without a byte, though the end lies further: nothing is there."""
    client = Answering(FIRST_TWO, NOTHING)
    assert run(client) == ([0, 1], 2)
    assert client.asked == 3


@pytest.mark.parametrize("between", [(9, 9, 9), (NOT_LEADER, NOT_LEADER)])
def test_a_broker_that_isnt_ready_is_no_empty_tail(between: Sequence[Any]) -> None:
    """Answers of one that throttles or leads no more say nothing of the records."""
    client = Answering(
        *between, FIRST_TWO, *between, (*FIRST_TWO[:7], batch(2, [0, 1]))
    )
    assert run(client) == ([0, 1, 2, 3], 0)
    assert client.refreshed >= 2 * len(between)


def test_an_end_that_the_broker_no_longer_has_is_waited_for() -> None:
    """A new leader that lags isn't taken for an empty tail; it is given up on."""
    behind = (0, 0, 2, 2, 0, None, -1, b"")
    with pytest.raises(KafkaUnreachableError, match="more is there"):
        run(Answering(FIRST_TWO, behind))


def test_a_damaged_batch_ends_the_scan() -> None:
    """Partition and offset are named."""
    damaged = batch(0, [0])[:-1] + b"x"
    with pytest.raises(KafkaError, match=r"partition 0: .* offset 0 "):
        run(Answering((*FIRST_TWO[:7], damaged)))


def test_a_batch_that_never_comes_whole_ends_the_scan() -> None:
    """Kafka sends at least one whole batch, so that this would go on for ever."""
    with pytest.raises(KafkaError, match="came incomplete"):
        run(Answering((*FIRST_TWO[:7], batch(0, [0])[:-1])))


def test_an_error_that_stays_ends_the_scan() -> None:
    """A right that was taken away isn't waited for."""
    refused = (0, 29, -1, -1, -1, None, -1, b"")
    with pytest.raises(Exception, match="jobs"):
        run(Answering(refused))
