"""An example as a process: started, listened to, ended as an operator ends it."""

from __future__ import annotations

import signal
import sqlite3  # noqa: TID251 - the example's own database
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tests.conftest import Topic


# A JVM on a busy machine, or a client that finds its broker again: 16 s with ten
# processes beside it.
_LINE_SECONDS = 30.0
_END_SECONDS = 10.0

_EXAMPLES = Path(__file__).parents[2] / "examples"

# The group's coordinator moves, or is loading.
_COORDINATOR_CODES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class Program:
    """A running example."""

    def __init__(self, process: trio.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._buffer = b""

    async def lines(self, count: int) -> list[str]:
        """Wait for so many more lines."""
        lines: list[str] = []
        with trio.fail_after(_LINE_SECONDS):
            while len(lines) < count:
                lines.append(await self._line())
        return lines

    async def _line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            chunk = await self._process.stdout.receive_some()
            assert chunk, f"the example ended: {self.errors}"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text()

    async def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send SIGTERM, or SIGINT; give the exit code and what was still written."""
        assert self._process.stdout is not None
        self._process.send_signal(how)
        with trio.fail_after(_END_SECONDS):
            async for chunk in self._process.stdout:
                self._buffer += chunk
            code = await self._process.wait()
        return code, self._buffer.decode()


@asynccontextmanager
async def running(argv: Sequence[str | Path], folder: Path) -> AsyncIterator[Program]:
    """Start an example in a folder; it is gone afterwards in any case."""
    with (folder / "stderr").open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [str(part) for part in argv],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
        )
    assert process.stdout is not None
    try:
        yield Program(process, folder / "stderr")
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


async def caught_up(topic: Topic, group: str) -> None:
    """Wait until a group has committed the end of every partition."""
    with trio.fail_after(_LINE_SECONDS):
        # The broker notifies no client; it has to be asked.
        while not await trio.to_thread.run_sync(  # noqa: ASYNC110
            _is_caught_up, topic, group
        ):
            await trio.sleep(0.2)


def _is_caught_up(topic: Topic, group: str) -> bool:
    consumer = Consumer(
        {"bootstrap.servers": topic.bootstrap_servers, "group.id": group}
    )
    try:
        return all(
            # Nothing was ever committed where nothing ever was.
            max(each.offset, 0) == consumer.get_watermark_offsets(each, timeout=5)[1]
            for each in _committed(consumer, topic)
        )
    except KafkaException as error:
        if error.args[0].code() in _COORDINATOR_CODES:
            return False
        raise
    finally:
        consumer.close()


def _committed(consumer: Consumer, topic: Topic) -> list[TopicPartition]:
    partitions = [TopicPartition(topic.name, n) for n in range(topic.partitions)]
    return consumer.committed(partitions, timeout=5)


def example(name: str, topic: Topic, read: str | None = None) -> list[str]:
    """Return the command line of a program that reads jobs, or another topic."""
    options = ["--bootstrap-servers", topic.bootstrap_servers, "--topic"]
    return [sys.executable, str(_EXAMPLES / name), *options, read or topic.name]


def rows(file: Path, query: str) -> list[tuple[object, ...]]:
    """Query an example's database."""
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()
