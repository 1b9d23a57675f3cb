"""Tests of what a board reads whatever happens to Kafka, and of its names."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Self

import httpx  # noqa: TID251 - the browser of these tests
import pytest
import trio
import trio.testing

from bridge.board import running
from bridge.board.board import Reading, TopicState
from bridge.errors import ConfigError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.reader import ConsumedRecord, Edge, Start
from bridge.settings import BoardSettings, KafkaSettings, Settings
from bridge.text import hide
from tests.consumer.records import raw_record


_UNREACHABLE = KafkaUnreachableError("Kafka at k:9092 can't be reached: refused")
_MISSING = KafkaRefusedError("Kafka at k:9092 has no topic jobs.gaps. Create it.")


class Readers:
    """Replaces `TopicReader`: each that is opened follows the next script."""

    def __init__(self, *scripts: Exception | Sequence[Any]) -> None:
        self._scripts = list(scripts)
        self.topics: list[str] = []
        self.starts: list[Start] = []
        self.silent_since_seconds: float | None = None
        self.lag = 0
        self.positions: dict[tuple[str, int], int] = {}
        self.is_at_end = True
        self._script: list[Any] = []

    def __call__(self, _: object, topics: Sequence[str], *, start: Start) -> Self:
        """Make a reader."""
        self.topics.append(topics[0])
        self.starts.append(start)
        return self

    async def __aenter__(self) -> Self:
        script = self._scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        self._script = list(script)
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def receive_run(self) -> list[ConsumedRecord]:
        """Return the next run."""
        await trio.lowlevel.checkpoint()
        if not self._script:
            await trio.sleep_forever()
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        run: list[ConsumedRecord] = step
        self.positions = {(one.topic, one.partition): one.offset + 1 for one in run}
        return run


async def _followed(
    monkeypatch: pytest.MonkeyPatch,
    readers: Readers,
    seconds: float,
    *,
    is_required: bool = True,
) -> tuple[TopicState, list[int]]:
    """Follow for some seconds; return the state and what was read."""
    monkeypatch.setattr(running, "TopicReader", readers)
    state = TopicState()
    offsets: list[int] = []

    def take(run: list[ConsumedRecord], _is_end: bool) -> None:  # noqa: FBT001
        offsets.extend(record.offset for record in run)

    with trio.move_on_after(seconds):
        await running.follow(KafkaSettings(), "jobs", 1_000, take, state, is_required)
    return state, offsets


def _run(*offsets: int) -> list[ConsumedRecord]:
    return [raw_record(b"{}", offset=offset) for offset in offsets]


async def test_reading_continues_where_it_was(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A reader that failed is followed by one that starts at its offsets."""
    readers = Readers([_run(5, 6), _UNREACHABLE], _UNREACHABLE, _UNREACHABLE, [_run(7)])
    state, offsets = await _followed(monkeypatch, readers, 30)
    assert offsets == [5, 6, 7]
    assert readers.starts == [1_000, *[{("jobs", 2): 7}] * 3]
    assert (state.unavailable_since_ms, state.note) == (None, None)


async def test_a_note_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Whatever a broker echoes in its error."""
    hide("canary-password")
    readers = Readers(KafkaUnreachableError("denied: usr:canary-password"))
    state, _ = await _followed(monkeypatch, readers, 0.1)
    assert state.note == "denied: usr:[hidden]"


async def test_silent_kafka_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """The reader reports it without failing."""
    readers = Readers([_run(1), []])
    readers.silent_since_seconds = time.monotonic() - 20
    state, _ = await _followed(monkeypatch, readers, 1)
    assert state.unavailable_since_ms is not None
    assert 20_000 <= time.time() * 1000 - state.unavailable_since_ms < 30_000
    assert state.reading(0.0) is Reading.UNAVAILABLE


async def test_a_missing_optional_topic_is_a_note(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """From the start on; it is tried again, and read once it exists."""
    for seconds, read in ((0.4, []), (5.0, [3])):
        readers = Readers(_MISSING, _MISSING, [_run(3)])
        state, offsets = await _followed(
            monkeypatch, readers, seconds, is_required=False
        )
        assert offsets == read
        assert (state.note is None) == bool(read)
        assert read or "missing" in (state.note or "")


@pytest.mark.parametrize(
    ("error", "is_required"),
    [(ConfigError("kafka.ssl_ca_file"), False), (_MISSING, True)],
)
async def test_a_start_that_cannot_succeed_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    error: Exception,
    is_required: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An unusable certificate, or a required topic that is missing."""
    with pytest.raises(type(error)):
        await _followed(monkeypatch, Readers(error), 10, is_required=is_required)


@pytest.mark.parametrize(
    ("state", "rate", "reading"),
    [
        (TopicState(), 0.0, Reading.STARTING),
        (TopicState(has_started=True, lag=900), 0.0, Reading.LIVE),
        (TopicState(has_started=True, lag=9_000), 5_000.0, Reading.LIVE),
        (TopicState(has_started=True, lag=9_000), 50.0, Reading.CATCHING_UP),
        (
            TopicState(has_started=True, unavailable_since_ms=1),
            0.0,
            Reading.UNAVAILABLE,
        ),
    ],
)
def test_reading_is_one_word(state: TopicState, rate: float, reading: Reading) -> None:
    """A lag that is read within moments isn't shown."""
    assert state.reading(rate) is reading


async def _ran(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, *hosts: str
) -> tuple[dict[str, Start], list[int], str]:
    """Run a board; return what it reads, its answers to some hosts, and its address."""
    # All topics are empty.
    readers = Readers(*[[]] * 4)
    monkeypatch.setattr(running, "TopicReader", readers)
    send_address, address = trio.open_memory_channel[str](math.inf)
    codes = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run, settings, send_address.send_nowait)
        with trio.fail_after(10):
            page = await address.receive()
            url = f"http://127.0.0.1:{page.rstrip('/').rpartition(':')[2]}/"
            async with httpx.AsyncClient(trust_env=False) as client:
                for host in hosts:
                    answer = await client.get(url, headers={"Host": host})
                    codes.append(answer.status_code)
        nursery.cancel_scope.cancel()
    return dict(zip(readers.topics, readers.starts, strict=True)), codes, page


async def test_topics_are_read_from_some_time_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gaps from their beginning, and previews if they have a topic."""
    board = BoardSettings(listen="127.0.0.1:0", since_seconds=60)
    begun_ms = time.time() * 1000
    settings = Settings(topic="j", board=board)
    starts, _, _ = await _ran(monkeypatch, settings, "localhost")
    since = starts["j"]
    assert isinstance(since, int)
    assert -1 <= since - (begun_ms - 60_000) < 10_000
    assert starts == {"j": since, "j.gaps": Edge.BEGINNING, "j.dlq": since}
    apart = Settings(topic="j", board=board, previews="topic")
    starts, _, _ = await _ran(monkeypatch, apart, "localhost")
    assert set(starts) == {"j", "j.gaps", "j.dlq", "j.previews"}


async def test_the_board_is_reached_by_the_names_that_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by this machine's own; if it listens on all addresses, it prints one."""
    board = BoardSettings(listen="0.0.0.0:0", hosts="a.example, [fe80::1],10.0.0.9")
    hosts = ["a.example:1", "[fe80::1]:1", "10.0.0.9", "localhost", "b.example"]
    _, codes, address = await _ran(monkeypatch, Settings(board=board), *hosts)
    assert codes == [200, 200, 200, 200, 421]
    assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("hosts", ["", "a.example,", " , "])
async def test_an_empty_name_accepts_no_host(
    monkeypatch: pytest.MonkeyPatch, hosts: str
) -> None:
    """However the list of names ends: browsers send names that aren't hosts."""
    board = BoardSettings(listen="127.0.0.1:0", hosts=hosts)
    names = ("stranger$.example", "localhost")
    _, codes, _ = await _ran(monkeypatch, Settings(board=board), *names)
    assert codes == [421, 200]
