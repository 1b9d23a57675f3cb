"""Tests of folding repeated log lines, on a clock that the test turns."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from bridge.operations.folding import Folding, FoldingHandler


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Read the clock."""
        return self.seconds


class Lines(logging.Handler):
    """Keeps what passes: text and how often it was repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note one line."""
        text = record.msg["event"] if isinstance(record.msg, dict) else None
        self.seen.append((text or record.getMessage(), getattr(record, "repeated", 0)))


def _record(
    template: object,
    *args: object,
    name: str = "aiokafka.conn",
    level: int = logging.ERROR,
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "conn.py", 1, template, args, None)


def _event(
    event: str, level: int = logging.WARNING, **fields: object
) -> logging.LogRecord:
    return _record({"event": event, **fields}, name="bridge.room", level=level)


def _seen(*steps: logging.LogRecord | float) -> list[tuple[str, int]]:
    """Have records handled and seconds pass, close, and give what was written."""
    clock, lines = Clock(), Lines()
    handler = FoldingHandler(lines, Folding(clock, most_kinds=3))
    for step in steps:
        if isinstance(step, float):
            clock.seconds += step
            handler.report()
        else:
            handler.handle(step)
    handler.close()
    return lines.seen


def _nodes(*numbers: int) -> list[logging.LogRecord]:
    return [_record("no connection to node %s", number) for number in numbers]


def _events(event: str, field: str, *values: object) -> list[logging.LogRecord]:
    return [_event(event, logging.WARNING, **{field: value}) for value in values]


_AGAIN, _OTHER = _record("again"), _record("other")
_INFO = _event("session.subscribed", logging.INFO, client_id="a")
_NODE = "no connection to node"

# What happens, and the lines with how often each is a repeat.
_TABLE: list[tuple[Sequence[logging.LogRecord | float], list[tuple[str, int]]]] = [
    # The kind is the template; the summary has the last text and the count.
    (_nodes(0, 1, 2), [(f"{_NODE} 0", 0), (f"{_NODE} 2", 2)]),
    # A summary comes every 30 s at most, without another line.
    ([_AGAIN, _AGAIN, 29.9, _AGAIN], [("again", 0), ("again", 2)]),
    ([_AGAIN, _AGAIN, 30.0, _AGAIN], [("again", 0), ("again", 1), ("again", 1)]),
    # What comes more rarely is never held back.
    ([_AGAIN, 31.0, _AGAIN, 31.0, _AGAIN], [("again", 0)] * 3),
    # Logger, level and template make a kind.
    ([_AGAIN, _record("again", name="aiokafka.cluster")], [("again", 0)] * 2),
    ([_AGAIN, _record("again", level=logging.WARNING)], [("again", 0)] * 2),
    ([_AGAIN, _OTHER], [("again", 0), ("other", 0)]),
    # A library's sentence without template is a kind but for its numbers.
    (
        [_record("Task 17 at 0x7f3a failed"), _record("Task 18 at 0x9bc1 failed")],
        [("Task 17 at 0x7f3a failed", 0), ("Task 18 at 0x9bc1 failed", 1)],
    ),
    # The bridge's information is never folded, its warnings for each subject.
    ([_INFO] * 3, [("session.subscribed", 0)] * 3),
    (
        _events("session.lost", "client_id", "a", "b", "a"),
        [("session.lost", 0), ("session.lost", 0), ("session.lost", 1)],
    ),
    # Reasons of one word are told apart, sentences fold; every gap has its line.
    (_events("refused", "reason", "no_header", "no_key"), [("refused", 0)] * 2),
    (_events("away", "reason", "HTTP 500", "HTTP 501"), [("away", 0), ("away", 1)]),
    (_events("gap.opened", "gap_id", "g-1", "g-2"), [("gap.opened", 0)] * 2),
    # The oldest of three kinds makes room, and its count is written.
    (
        [_AGAIN, _AGAIN, _OTHER, _record("third"), _record("fourth")],
        [("again", 0), ("other", 0), ("third", 0), ("again", 1), ("fourth", 0)],
    ),
]


def test_repeats_of_a_kind_become_a_count(subtests: pytest.Subtests) -> None:
    """The first line passes, the others come as one with their number."""
    for number, (steps, lines) in enumerate(_TABLE):
        with subtests.test(number=number, lines=lines):
            assert _seen(*steps) == lines


@pytest.fixture
def clock() -> Clock:
    """The clock of the folding under test."""
    return Clock()


@pytest.fixture
def lines() -> Lines:
    """What was written."""
    return Lines()


@pytest.fixture
def handler(clock: Clock, lines: Lines) -> FoldingHandler:
    """The handler under test."""
    return FoldingHandler(lines, Folding(clock))


def test_exception_does_not_stay_alive(clock: Clock, lines: Lines) -> None:
    """What is held back keeps no traceback, and so no frame of a task."""
    folding = Folding(clock)
    handler = FoldingHandler(lines, folding)
    error = ValueError("boom")
    for _ in range(2):
        record = _record("failed")
        record.exc_info = (ValueError, error, None)
        handler.handle(record)
        handler.handle(_event("room.failed", exc_info=error))
    passing = folding.drain()
    assert [record.exc_info for record in passing] == [None, None]
    assert passing[1].msg == {"event": "room.failed"}
