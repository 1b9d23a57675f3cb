"""Tests of repeated log lines, on a clock that the test moves."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import pytest

from bridge.operations.logs import RepeatFilter


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Read the clock."""
        return self.seconds


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
    """Filter records and let seconds pass; give what passed, and with how many."""
    clock = Clock()
    repeats, seen = RepeatFilter(clock), []
    for step in steps:
        if isinstance(step, float):
            clock.seconds += step
        elif repeats.filter(record := copy.copy(step)):
            event = record.msg["event"] if isinstance(record.msg, dict) else None
            text = event or record.getMessage()
            seen.append((text, getattr(record, "repeats", 0)))
    return seen


def _nodes(*numbers: int) -> list[logging.LogRecord]:
    return [_record("no connection to node %s", number) for number in numbers]


def _events(event: str, field: str, *values: object) -> list[logging.LogRecord]:
    return [_event(event, logging.WARNING, **{field: value}) for value in values]


_AGAIN, _OTHER = _record("again"), _record("other")
_INFO = _event("session.subscribed", logging.INFO, client_id="a")
_NODE = "no connection to node"

# What happens, and the lines with how often each is a repeat.
_TABLE: list[tuple[Sequence[logging.LogRecord | float], list[tuple[str, int]]]] = [
    # The kind is the template; the next line has the number of the others.
    (_nodes(0, 1, 2), [(f"{_NODE} 0", 0)]),
    ([_AGAIN, _AGAIN, 29.9, _AGAIN], [("again", 0)]),
    ([_AGAIN, _AGAIN, _AGAIN, 30.0, _AGAIN], [("again", 0), ("again", 2)]),
    # What comes more rarely is never held back.
    ([_AGAIN, 31.0, _AGAIN, 31.0, _AGAIN], [("again", 0)] * 3),
    # Logger, level and template make a kind.
    ([_AGAIN, _record("again", name="aiokafka.cluster")], [("again", 0)] * 2),
    ([_AGAIN, _record("again", level=logging.WARNING)], [("again", 0)] * 2),
    ([_AGAIN, _OTHER], [("again", 0), ("other", 0)]),
    # A library's sentence without template is a kind but for its numbers.
    (
        [_record("Task 17 at 0x7f3a failed"), _record("Task 18 at 0x9bc1 failed")],
        [("Task 17 at 0x7f3a failed", 0)],
    ),
    # The bridge's information is never folded, its warnings for each subject.
    ([_INFO] * 3, [("session.subscribed", 0)] * 3),
    (
        _events("session.lost", "client_id", "a", "b", "a"),
        [("session.lost", 0), ("session.lost", 0)],
    ),
    # Reasons of one word are told apart, sentences fold; every gap has its line.
    (_events("refused", "reason", "no_header", "no_key"), [("refused", 0)] * 2),
    (_events("away", "reason", "HTTP 500", "HTTP 501"), [("away", 0)]),
    (_events("gap.opened", "gap_id", "g-1", "g-2"), [("gap.opened", 0)] * 2),
]


def test_repeats_of_a_kind_become_a_count(subtests: pytest.Subtests) -> None:
    """The first line passes, the next one after 30 s has the number of the others."""
    for number, (steps, lines) in enumerate(_TABLE):
        with subtests.test(number=number, lines=lines):
            assert _seen(*steps) == lines


def test_memory_is_bounded() -> None:
    """Of very many kinds the oldest is forgotten, and passes again."""
    steps = [_record(f"{'x' * number}") for number in range(1, 150)]
    kinds = [_record("one", name=f"log-{number}") for number in range(4_096)]
    assert len(_seen(*steps, *kinds, *steps[:1])) == 150 + 4_096
