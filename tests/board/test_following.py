"""Tests of reading that goes on whatever becomes of Kafka; the reader is scripted."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from bridge.board import following
from bridge.board.figures import Reading, Standing, reading_of
from bridge.board.following import Follower
from bridge.errors import ConfigError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.reader import ConsumedRecord
from bridge.settings import KafkaSettings
from tests.board.readers import Readers
from tests.consumer.records import raw_record


_AWAY = KafkaUnreachableError("Kafka at k:9092 can't be reached: refused")
_MISSING = KafkaRefusedError("Kafka at k:9092 has no topic jobs.gaps. Create it.")


class Followed:
    """What a follower told while it ran for some seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, readers: Readers) -> None:
        monkeypatch.setattr(following, "TopicReader", readers)
        self.readers = readers
        self.standing = Standing()
        self.taken: list[int] = []

    async def run(self, seconds: float, *, is_required: bool = True) -> None:
        """Follow."""

        def take(run: list[ConsumedRecord], _is_end: bool) -> None:  # noqa: FBT001
            self.taken += [record.offset for record in run]

        follower = Follower(
            KafkaSettings(),
            "jobs",
            1_000,
            take,
            self.standing,
            is_required=is_required,
        )
        with trio.move_on_after(seconds):
            await follower.run()


def _run(*offsets: int) -> list[ConsumedRecord]:
    return [raw_record(b"{}", offset=offset) for offset in offsets]


async def test_reading_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A reader that failed is followed by one that takes up its offsets."""
    readers = Readers([_run(5, 6), _AWAY], _AWAY, _AWAY, [_run(7)])
    here = Followed(monkeypatch, readers)
    await here.run(30)
    assert here.taken == [5, 6, 7]
    assert readers.starts == [1_000, *[{("jobs", 2): 7}] * 3]
    assert (here.standing.away_since_ms, here.standing.note) == (None, None)


async def test_kafka_that_falls_silent_is_away(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The reader says so without failing."""
    readers = Readers([_run(1), []])
    readers.silent_since_seconds = time.monotonic() - 20
    here = Followed(monkeypatch, readers)
    await here.run(1)
    since_ms = here.standing.away_since_ms
    assert since_ms is not None
    assert 20_000 <= time.time() * 1000 - since_ms < 30_000
    assert reading_of(here.standing, 0.0) is Reading.AWAY


async def test_a_missing_topic_beside_is_a_note(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """From the start on; it is looked for again, and read once it is there."""
    here = Followed(monkeypatch, Readers(_MISSING, _MISSING, [_run(3)]))
    await here.run(0.4, is_required=False)
    assert "missing" in (here.standing.note or "")
    here = Followed(monkeypatch, Readers(_MISSING, _MISSING, [_run(3)]))
    await here.run(5, is_required=False)
    assert here.standing.note is None
    assert here.taken == [3]


async def test_what_no_waiting_mends_is_an_error(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A certificate that can't be used, for one."""
    here = Followed(monkeypatch, Readers(ConfigError("kafka.ssl_ca_file")))
    with pytest.raises(ConfigError):
        await here.run(10, is_required=False)


@pytest.mark.parametrize(
    ("standing", "rate", "reading"),
    [
        (Standing(), 0.0, Reading.STARTING),
        (Standing(has_begun=True, lag=900), 0.0, Reading.LIVE),
        (Standing(has_begun=True, lag=9_000), 5_000.0, Reading.LIVE),
        (Standing(has_begun=True, lag=9_000), 50.0, Reading.CATCHING_UP),
        (Standing(has_begun=True, lag=9_000, away_since_ms=1), 0.0, Reading.AWAY),
    ],
)
def test_how_reading_stands_is_one_word(
    standing: Standing, rate: float, reading: Reading
) -> None:
    """A lag that is read within moments is none that anybody sees."""
    assert reading_of(standing, rate) is reading
