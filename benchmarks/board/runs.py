"""
One run: a board of its own, browsers before it, records behind it.

Owns the order of it. What is written stands in `load`, what browsers do in `browsers`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import trio

from benchmarks.board import browsers, page, pictures, writer
from benchmarks.board.figures import (
    BoardRun,
    Fetched,
    Kind,
    Notes,
    PageRun,
    growth_a_second,
    ordinary,
    percentiles_ms,
    slow,
)
from benchmarks.board.stream import Stream
from benchmarks.contenders import program
from benchmarks.course import RunError
from benchmarks.measuring import Meter, Usage
from benchmarks.staging import running
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, run_all, stop_all


__all__ = ["Course"]

_ADDRESS = re.compile(r"the board of jobs: http://127\.0\.0\.1:(\d+)/")
_PARTITIONS = 6

_HISTORY_SECONDS = 60.0
_CATCH_UP_SECONDS = 60.0

# Before memory is looked at: the browsers' snapshots are gone by then.
_SETTLE_SECONDS = 2.0
# From the first record to the first reading.
_LEAD_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_STOP_SECONDS = 15.0
# A browser's start and end, on a busy machine.
_PAGE_SECONDS = 30.0


class Course:
    """
    Lets boards run one after the other on the same Kafka.

    Args:
        kafka: It.
        folder: For files; the caller removes it.
    """

    def __init__(self, kafka: KafkaServer, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder

    def run(self, rate: int, count: int, seconds: float) -> BoardRun:
        """
        Run a board once.

        Args:
            rate: Events a second; 0 for none.
            count: Browsers.
            seconds: How long.

        Raises:
            RunError: A process ended in the middle, or the board doesn't catch up.
            ProcessError: A process didn't start, or end.
            BrokerError: The broker refused a topic.
        """
        with self._opened(count) as (topic, board, catch_up_seconds):
            with (
                self._looking(board, count) as (crowd, noted),
                self._looking(board, 0) as (watcher, noted_by_watcher),
            ):
                time.sleep(_SETTLE_SECONDS)
                watch = _Watch(board.pid, seconds, [board, crowd, watcher])
                rest_bytes = watch.resident_bytes()
                helpers = [crowd.pid, watcher.pid, *self._kafka.pids]
                events = self._under_load(watch, topic, rate, helpers)
                stop_all([crowd, watcher], grace_seconds=_STOP_SECONDS)
            notes = [_read(file) for file in (noted, noted_by_watcher)]
        watched = watch.watched
        assert watched is not None
        return _sum_up(
            rate, count, events, catch_up_seconds, rest_bytes, watched, notes
        )

    def fetch(self) -> Fetched:
        """
        Fetch previews from a board at rest.

        Raises:
            As `run`.
        """
        with self._opened(1) as (_, board, _):
            return pictures.fetch(_port(board), board.pid)

    def show(self, rate: int, seconds: float) -> PageRun:
        """
        Have a browser show the page while records are written.

        Args:
            rate: Events a second.
            seconds: How long.

        Raises:
            As `run`.
        """
        with self._opened(1) as (topic, board, _):
            file = self._folder / f"{topic}.json"
            browser = program(
                "page",
                [page.__name__, str(_port(board)), str(seconds), str(file)],
                self._folder,
                ready=lambda child: page.READY_MARK in child.output(),
            )
            long_enough = seconds + _PAGE_SECONDS
            with running(self._writer(topic, rate, long_enough)):
                run_all([browser], deadline_seconds=long_enough)
            found = msgspec.json.decode(file.read_bytes(), type=PageRun)
        found.rate = rate
        return found

    @contextmanager
    def _opened(self, count: int) -> Iterator[tuple[str, ChildProcess, float]]:
        """Have a board that has read what was there; tell how long that took it."""
        with self._topic() as topic:
            history = self._writer(topic, 0, 0)
            run_all([history], deadline_seconds=_HISTORY_SECONDS)
            board = self._board(topic, count)
            began = time.monotonic()
            with running(board):
                trio.run(_caught_up, _port(board))
                catch_up_seconds = time.monotonic() - began
                # Until it has noticed that nobody looks any more.
                time.sleep(_SETTLE_SECONDS)
                yield topic, board, catch_up_seconds

    def _under_load(
        self, watch: _Watch, topic: str, rate: int, helpers: Sequence[int]
    ) -> int:
        """Watch while records are written; give how many there were."""
        if not rate:
            watch.run(helpers)
            return 0
        seconds = _LEAD_SECONDS + watch.seconds
        load = self._writer(topic, rate, seconds)
        with running(load):
            time.sleep(_LEAD_SECONDS)
            watch.run([*helpers, load.pid])
            deadline = time.monotonic() + _HISTORY_SECONDS
            while load.running and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
        _, found, count = load.output().partition(writer.DONE_MARK)
        if not found:
            raise RunError(str(load.error("has not written all")))
        return int(count)

    @contextmanager
    def _looking(
        self, board: ChildProcess, count: int
    ) -> Iterator[tuple[ChildProcess, Path]]:
        """Have browsers that are told; give what they write at their end."""
        name = f"browsers-{count}"
        file = self._folder / f"{name}.json"
        file.unlink(missing_ok=True)
        crowd = program(
            name,
            [browsers.__name__, str(_port(board)), str(count), str(file)],
            self._folder,
            ready=lambda child: browsers.READY_MARK in child.output(),
        )
        with running(crowd):
            yield crowd, file

    @contextmanager
    def _topic(self) -> Iterator[str]:
        topic = f"bench-{uuid.uuid4().hex[:12]}"
        names = {topic: _PARTITIONS, f"{topic}.gaps": 1, f"{topic}.dlq": 1}
        for name, partitions in names.items():
            self._kafka.create_topic(name, partitions)
        try:
            yield topic
        finally:
            self._kafka.delete_topics(*names)

    def _board(self, topic: str, count: int) -> ChildProcess:
        settings = {
            "BRIDGE_TOPIC": topic,
            "BRIDGE_KAFKA_BOOTSTRAP_SERVERS": self._kafka.bootstrap_servers,
            "BRIDGE_BOARD_LISTEN": "127.0.0.1:0",
            # All that are counted, and the one that watches.
            "BRIDGE_BOARD_MAX_BROWSERS": str(count + 1),
        }
        return program(
            "board",
            ["bridge", "board"],
            self._folder,
            environment=settings,
            ready=lambda child: _ADDRESS.search(child.output()) is not None,
        )

    def _writer(self, topic: str, rate: int, seconds: float) -> ChildProcess:
        servers = self._kafka.bootstrap_servers
        return program(
            "writer",
            [writer.__name__, servers, topic, str(rate), str(seconds)],
            self._folder,
            ready=lambda child: writer.BEGIN_MARK in child.output(),
        )


def _port(board: ChildProcess) -> int:
    found = _ADDRESS.search(board.output())
    assert found is not None, "it is ready once it has told its address"
    return int(found[1])


def _read(file: Path) -> Notes:
    return msgspec.json.decode(file.read_bytes(), type=Notes)


async def _caught_up(port: int) -> None:
    """Wait until a board has read all that was there."""
    with trio.move_on_after(_CATCH_UP_SECONDS):
        async with aclosing(Stream(port).messages()) as messages:
            async for told in messages:
                figures = msgspec.json.decode(told.data)["figures"]
                if figures["reading"] == "live" and not figures["lag"]:
                    return
    raise RunError("the board doesn't come to the end of its topic")


@dataclass(frozen=True)
class _Watched:
    """What a board took in a time; moments are microseconds since the epoch."""

    begin_us: int
    end_us: int
    usage: Usage
    series: list[tuple[float, int]]


class _Watch:
    """
    Looks at a board's process.

    Args:
        pid: It.
        seconds: How long.
        children: None of them may end meanwhile.

    Attributes:
        watched: What was seen; None before.
    """

    def __init__(
        self, pid: int, seconds: float, children: Sequence[ChildProcess]
    ) -> None:
        self.seconds = seconds
        self.watched: _Watched | None = None
        self._process = psutil.Process(pid)
        self._children = children

    def resident_bytes(self) -> int:
        """Tell what it has in memory now."""
        size: int = self._process.memory_info().rss
        return size

    def run(self, helpers: Sequence[int]) -> None:
        """Look at it for the whole time."""
        meter = Meter(self._process.pid, helpers)
        begin_us = time.time_ns() // 1000
        began = time.monotonic()
        series = []
        while (passed := time.monotonic() - began) < self.seconds:
            series.append((round(passed, 2), self.resident_bytes()))
            meter.look()
            time.sleep(_LOOK_SECONDS)
            for child in self._children:
                if not child.running:
                    raise RunError(str(child.error("ended in the middle of a run")))
        end_us = time.time_ns() // 1000
        self.watched = _Watched(begin_us, end_us, meter.read(), series)


def _sum_up(  # noqa: PLR0913, PLR0917 - all that a run gives
    rate: int,
    count: int,
    events: int,
    catch_up_seconds: float,
    rest_bytes: int,
    watched: _Watched,
    notes: Sequence[Notes],
) -> BoardRun:
    begin_us, end_us, usage = watched.begin_us, watched.end_us, watched.usage
    seconds = (end_us - begin_us) / 1e6
    seen = [one for some in notes for one in some.seen]
    last = [
        note
        for one in seen
        if one.kind is Kind.ORDINARY
        for note in one.between(begin_us, end_us)[-1:]
    ]
    took_us = [
        took
        for one in seen
        for arrived, took in one.took_us
        if begin_us <= arrived < end_us
    ]
    return BoardRun(
        rate=rate,
        browsers=count,
        seconds=seconds,
        events=events,
        cores=usage.cpu_seconds / seconds,
        threads={
            name: used / seconds for name, used in usage.thread_seconds.items() if used
        },
        others_cores=usage.others_cores,
        rest_bytes=rest_bytes,
        peak_bytes=max(size for _, size in watched.series),
        series=watched.series,
        growth_bytes_a_second=growth_a_second(watched.series),
        catch_up_seconds=catch_up_seconds,
        lag=max((note.lag for note in last), default=0),
        told=max((note.browsers for note in last), default=0),
        delay_ms=percentiles_ms(took_us),
        ordinary=ordinary(seen, begin_us, end_us),
        slow=slow(seen, begin_us),
        refusal=next((one.refusal for one in notes if one.refusal), None),
    )
