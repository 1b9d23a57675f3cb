"""
Many browsers that look at one board, and note what each was told and when.

A program (`python -m benchmarks.board.browsers PORT BROWSERS FILE`). One in ten is
slow: it reads little a second, or pauses, or stops reading. It says when all are told;
at SIGTERM it writes what was noted to a file. Of 0 browsers there is still the one that
looks for single jobs by their ids, which is kept from waiting for the others' turns,
and one too many, that is refused. Sums are made by `figures`.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
import trio

from benchmarks.board.figures import Kind, Note, Notes, Seen
from benchmarks.board.load import WATCHED
from benchmarks.board.stream import Stream, Told


__all__ = ["READY_MARK", "kinds_of"]

READY_MARK = "all are told"

_SLOW_PART: Final = 10

# Some tenth of what a board writes under load, over a line that holds no more than
# this on its way.
_SLOW_BYTES_A_SECOND: Final = 50_000
_SLOW_WINDOW_BYTES: Final = 32 * 1024

# Shorter than the ten seconds after which a board gives up whoever takes nothing.
_PAUSE_SECONDS: Final = 6.0
_BETWEEN_PAUSES_SECONDS: Final = 4.0

# At the end those that stopped read once more, and have so long for it.
_LAST_SECONDS: Final = 1.0


class _Job(msgspec.Struct):
    id: str
    last_ms: int


class _Figures(msgspec.Struct):
    now_ms: int
    lag: int
    reading: str
    browsers: int


class _Message(msgspec.Struct):
    jobs: list[_Job]
    figures: _Figures


_decode = msgspec.json.Decoder(_Message).decode


def kinds_of(browsers: int) -> list[Kind]:
    """Say how each of a number of browsers reads: one in ten badly, in three ways."""
    bad = (Kind.PAUSING, Kind.SLOW, Kind.STOPPED)
    slow = [bad[number % len(bad)] for number in range(browsers // _SLOW_PART)]
    return [*slow, *[Kind.ORDINARY] * (browsers - len(slow))]


class _Browser:
    """
    One of them.

    Args:
        port: Of the board.
        kind: How it reads.
        ending: Is set when reading is soon over.
    """

    def __init__(self, port: int, kind: Kind, ending: trio.Event) -> None:
        self.seen = Seen(kind)
        self._ending = ending
        self._paused_us = time.time_ns() // 1000
        self._wait = {
            Kind.SLOW: self._slowly,
            Kind.PAUSING: self._with_pauses,
            Kind.STOPPED: self._never,
        }.get(kind)
        self._stream = Stream(
            port,
            f"id={WATCHED}" if kind is Kind.WATCHING else "",
            _SLOW_WINDOW_BYTES if kind is Kind.SLOW else None,
        )

    async def run(
        self, task_status: trio.TaskStatus[int | None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read until the board ends it; report the answer's status at the first."""
        is_told = False
        async with aclosing(self._stream.messages()) as messages:
            async for told in messages:
                self._note(told)
                if not is_told:
                    is_told = True
                    task_status.started(self._stream.status)
                if self._wait is not None and not self._ending.is_set():
                    await self._wait(told)
        self.seen.was_ended = is_told
        if not is_told:
            task_status.started(self._stream.status)

    def _note(self, told: Told) -> None:
        message = _decode(told.data)
        figures = message.figures
        note = Note(
            arrived_us=told.arrived_us,
            size=len(told.data),
            made_us=figures.now_ms * 1000,
            newest_us=max((job.last_ms for job in message.jobs), default=0) * 1000,
            lag=figures.lag,
            reading=figures.reading,
            browsers=figures.browsers,
        )
        self.seen.notes.append(note)
        if self.seen.kind is Kind.WATCHING and not told.is_snapshot:
            self.seen.took_us += [
                (told.arrived_us, told.arrived_us - int(job.id.removeprefix(WATCHED)))
                for job in message.jobs
            ]

    async def _slowly(self, told: Told) -> None:
        await trio.sleep(len(told.data) / _SLOW_BYTES_A_SECOND)

    async def _with_pauses(self, told: Told) -> None:
        if told.arrived_us - self._paused_us >= _BETWEEN_PAUSES_SECONDS * 1e6:
            await trio.sleep(_PAUSE_SECONDS)
            self._paused_us = time.time_ns() // 1000
            self.seen.resumed_us.append(self._paused_us)

    async def _never(self, _: Told) -> None:
        await self._ending.wait()


async def _look(port: int, count: int) -> Notes:
    """Have all browsers look until SIGTERM."""
    ending = trio.Event()
    kinds = kinds_of(count) or [Kind.WATCHING]
    browsers = [_Browser(port, kind, ending) for kind in kinds]
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for browser in browsers:
                status = await nursery.start(browser.run)
                if status != HTTPStatus.OK:
                    raise SystemExit(f"the board answers {status}, and no events")
            refusal: int | None = None
            if not count:
                one_more = _Browser(port, Kind.ORDINARY, ending)
                refusal = await nursery.start(one_more.run)
            _say(READY_MARK)
            async for _ in signals:
                break
            ending.set()
            await trio.sleep(_LAST_SECONDS)
            nursery.cancel_scope.cancel()
    return Notes([browser.seen for browser in browsers], refusal)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    found = trio.run(_look, int(sys.argv[1]), int(sys.argv[2]))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(found))
