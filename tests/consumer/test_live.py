"""When something is drawn or written while a topic is read."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
import trio
from rich.console import Console

from bridge.consumer.live import follow_table, write_lines
from bridge.errors import KafkaError
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.records import job_record


if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class ScriptedSource:
    """Gives runs at stated times, then waits; trio's clock is the test's."""

    def __init__(
        self,
        *runs: tuple[float, list[ConsumedRecord]],
        failure: KafkaError | None = None,
    ) -> None:
        self._runs = list(runs)
        self._failure = failure
        self.lag = 0
        self.silent_since_seconds: float | None = None

    async def receive_run(self) -> list[ConsumedRecord]:
        """Wait for the next run's time."""
        if not self._runs:
            if self._failure is not None:
                raise self._failure
            await trio.sleep_forever()
        await trio.sleep_until(self._runs[0][0])
        await trio.lowlevel.checkpoint()
        return self._runs.pop(0)[1]


def jobs(*names: str) -> list[ConsumedRecord]:
    """One record for each of these jobs."""
    return [job_record(name, "processing") for name in names]


def terminal() -> Console:
    """A terminal that remembers."""
    return Console(
        file=io.StringIO(), width=80, height=20, force_terminal=True, color_system=None
    )


def written(console: Console) -> str:
    """All that a terminal got."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def test_a_stream_that_takes_parts_gets_everything(
    autojump_clock: object,
) -> None:
    """As a raw stream to a pipe does: each write takes a few bytes only."""

    class Sparing(io.BytesIO):
        def write(self, data: ReadableBuffer, /) -> int:
            return super().write(memoryview(data)[:7])

    out = Sparing()
    with trio.fail_after(5):
        await write_lines(ScriptedSource((1, jobs("a", "b"))), out, max_messages=2)
    assert [json.loads(line)["key"] for line in out.getvalue().splitlines()] == [
        "a",
        "b",
    ]


async def test_the_table_is_drawn_at_most_eight_times_a_second(
    autojump_clock: object,
) -> None:
    """Many runs make few pictures, and the last state is printed at the end."""
    console = terminal()
    runs = [(number / 100, jobs(f"job-{number}")) for number in range(200)]
    with trio.move_on_after(2.0):
        await follow_table(ScriptedSource(*runs), "jobs", console)
    on_screen, _, left = written(console).rpartition("\x1b[?1049l")
    pictures = on_screen.count("events/s")
    assert 10 <= pictures <= 17
    assert "job-199" in left
    assert left.count("events/s") == 1


async def test_the_terminal_is_put_back_whatever_ends_the_table(
    autojump_clock: object,
) -> None:
    """An error of Kafka leaves the alternate screen, shows the cursor and comes out."""
    console = terminal()
    source = ScriptedSource((1, jobs("a")), failure=KafkaError("gone"))
    with pytest.raises(KafkaError, match="gone"):
        await follow_table(source, "jobs", console)
    text = written(console)
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


async def test_a_silent_broker_shows(autojump_clock: object) -> None:
    """The table says that Kafka doesn't answer, without any record coming."""
    console = terminal()
    source = ScriptedSource()
    source.silent_since_seconds = 0.0
    with trio.move_on_after(1.0):
        await follow_table(source, "jobs", console)
    assert "Kafka has not answered" in written(console)
