"""Tests of the process's log: what comes out, what never does, and what repeats."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
import trio

from bridge.operations import logs


pytestmark = pytest.mark.usefixtures("logging_as_before")

_LOG = structlog.get_logger("bridge.room")


class _Stream(io.StringIO):
    """A stream that may be a terminal."""

    is_terminal = False

    def isatty(self) -> bool:
        """Whether it is one."""
        return self.is_terminal

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines that were written."""
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def events(self) -> list[object]:
        """Return what the lines are about."""
        return [line["event"] for line in self.lines()]


@pytest.fixture
def out() -> _Stream:
    """The stream under test."""
    return _Stream()


def test_json_line_has_the_standard_fields(out: _Stream) -> None:
    """Timestamp in UTC, level, logger and event come first; fields follow."""
    logs.configure("json", stream=out)
    before = datetime.now(UTC)
    _LOG.info("room.entered", door=2, who=["a", None])
    (line,) = out.lines()
    moment = datetime.fromisoformat(line["timestamp"])
    assert before <= moment <= datetime.now(UTC)
    assert list(line.items())[1:] == [
        ("level", "info"),
        ("logger", "bridge.room"),
        ("event", "room.entered"),
        ("door", 2),
        ("who", ["a", None]),
    ]


def test_console_line_names_everything(out: _Stream) -> None:
    """The line for people has time, level, event, logger and fields."""
    logs.configure("console", stream=out)
    _LOG.warning("room.locked", door=2)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z \[warning *\] room\.locked +"
        r"\[bridge\.room\] door=2\n",
        out.getvalue(),
    )


def test_colors_are_for_terminals_that_want_them(
    out: _Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colors appear on a terminal, and not under NO_COLOR."""
    out.is_terminal = True
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        logs.configure("console", stream=out)
        _LOG.info("room.entered")
    colored, plain = out.getvalue().splitlines()
    assert "\x1b[" in colored
    assert "\x1b[" not in plain


def test_level_is_a_threshold(out: _Stream) -> None:
    """What is less severe is not written, from the bridge or a library."""
    logs.configure("json", "warning", out)
    _LOG.info("room.entered")
    logging.getLogger("other").info("hello")
    _LOG.error("room.burning")
    assert out.events() == ["room.burning"]


@pytest.mark.parametrize(
    "name",
    [
        *("aiokafka.client", "asyncio", "httpx", "httpcore.http11"),
        # Not `trio_websocket`, as one might think.
        *("trio-websocket", "opentelemetry.sdk", "other.new"),
    ],
)
def test_libraries_are_tamed_even_at_debug(out: _Stream, name: str) -> None:
    """A library's chatter stays out at any level; its warnings are written."""
    logs.configure("json", "debug", out)
    logging.getLogger(name).debug("sent headers")
    logging.getLogger(name).info("POST https://example.test")
    logging.getLogger(name).warning("trouble")
    _LOG.debug("room.detail")
    assert out.events() == ["trouble", "room.detail"]


def _fail() -> None:
    a_local = "local-value".upper()
    try:
        [].pop()
    except IndexError as error:
        if a_local:
            raise trio.BrokenResourceError("outer") from error


@pytest.mark.parametrize("style", ["json", "console"])
def test_exception_has_its_cause_and_no_local_value(out: _Stream, style: Any) -> None:
    """In JSON it is a list with types and messages; people get the usual traceback."""
    logs.configure(style, stream=out)
    try:
        _fail()
    except trio.BrokenResourceError:
        _LOG.exception("room.burning")
    assert "LOCAL-VALUE" not in out.getvalue()
    if style == "console":
        assert "Traceback (most recent call last)" in out.getvalue()
        assert "IndexError: pop from empty list" in out.getvalue()
        return
    (line,) = out.lines()
    assert line["level"] == "error"
    outer, inner = line["exception"]
    assert (outer["exc_type"], outer["exc_value"]) == ("BrokenResourceError", "outer")
    assert (inner["exc_type"], inner["is_cause"]) == ("IndexError", True)
    assert outer["frames"][-1]["name"] == "_fail"


def test_a_long_chain_of_exceptions_is_cut(out: _Stream) -> None:
    """For people the last exception matters, and the end."""
    error: Exception = ValueError("the first of all")
    for level in range(1, 201):
        outer = RuntimeError(f"level {level}")
        outer.__cause__ = error
        error = outer
    logs.configure("console", stream=out)
    _LOG.error("room.burning", exc_info=error)
    assert 8192 < len(out.getvalue()) < 8192 + 200
    assert out.getvalue().endswith("RuntimeError: level 200\n")


def test_every_value_makes_a_line(out: _Stream) -> None:
    """What JSON doesn't have, and what a terminal would obey, becomes text."""
    logs.configure("json", stream=out)
    cycle: dict[str, object] = {}
    cycle["self"] = cycle
    values: dict[str, tuple[object, object]] = {
        "nan": (float("nan"), "nan"),
        "raw": (b"\xff", "b'\\xff'"),
        "when": (datetime(2025, 1, 1, tzinfo=UTC), "2025-01-01 00:00:00+00:00"),
        "surrogate": ("\ud800", "\\ud800"),
        "error": (TimeoutError("too late"), "TimeoutError: too late"),
        "several": ((1, frozenset({True}), {3: None}), [1, [True], {"3": None}]),
        "long": ("y " * 10_000, "y " * 4096 + "…"),
    }
    fields = {name: value for name, (value, _) in values.items()}
    _LOG.info("room.odd\x1b[2J", cycle=cycle, **fields)
    (line,) = out.lines()
    assert line["event"] == "room.odd\\x1b[2J"
    assert {name: line[name] for name in values} == {
        name: text for name, (_, text) in values.items()
    }


def test_a_client_error_is_a_line(out: _Stream) -> None:
    """Kafka's client logs what brokers answer; a traceback is for defects."""
    logs.configure("json", stream=out)
    error = ValueError("code 90")
    log = logging.getLogger("aiokafka.producer.sender")
    log.error("Unexpected error in %s", "sender", exc_info=error)
    (entry,) = out.lines()
    assert entry["event"] == "Unexpected error in sender: ValueError: code 90"
    assert "exception" not in entry


# -- Repeated lines, on a clock that the test moves ------------------------------------


def _record(
    template: object,
    *args: object,
    name: str = "aiokafka.conn",
    level: int = logging.ERROR,
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "conn.py", 1, template, args, None)


def _events(
    event: str, field: str, *values: object, level: int = logging.WARNING
) -> list[logging.LogRecord]:
    return [
        _record({"event": event, field: value}, name="bridge.room", level=level)
        for value in values
    ]


def _seen(*steps: logging.LogRecord | float) -> list[tuple[str, int]]:
    """Filter records and let seconds pass; return what passed, and with how many."""
    seconds, seen = 100.0, []
    repeats = logs.RepeatFilter(lambda: seconds)
    for step in steps:
        if isinstance(step, float):
            seconds += step
        elif repeats.filter(record := copy.copy(step)):
            event = record.msg["event"] if isinstance(record.msg, dict) else None
            text = event or record.getMessage()
            seen.append((text, getattr(record, "repeats", 0)))
    return seen


_AGAIN, _OTHER = _record("again"), _record("other")
_NODES = [_record("no connection to node %s", number) for number in range(3)]
_TASKS = [_record(f"Task {text} failed") for text in ("17 at 0x7f3a", "18 at 0x9bc1")]

# What happens, and the lines with how often each is a repeat.
_TABLE: list[tuple[Sequence[logging.LogRecord | float], list[tuple[str, int]]]] = [
    # The kind is the template; the next line has the number of the others.
    (_NODES, [("no connection to node 0", 0)]),
    ([_AGAIN, _AGAIN, 29.9, _AGAIN], [("again", 0)]),
    ([_AGAIN, _AGAIN, _AGAIN, 30.0, _AGAIN], [("again", 0), ("again", 2)]),
    # What comes more rarely is never held back.
    ([_AGAIN, 31.0, _AGAIN, 31.0, _AGAIN], [("again", 0)] * 3),
    # Logger, level and template make a kind.
    ([_AGAIN, _record("again", name="aiokafka.cluster")], [("again", 0)] * 2),
    ([_AGAIN, _record("again", level=logging.WARNING)], [("again", 0)] * 2),
    ([_AGAIN, _OTHER], [("again", 0), ("other", 0)]),
    # A library's sentence without template is a kind except for its numbers.
    (_TASKS, [("Task 17 at 0x7f3a failed", 0)]),
    # All information of the bridge passes; its warnings repeat for each subject.
    (_events("in", "client_id", *"aaa", level=logging.INFO), [("in", 0)] * 3),
    (_events("session.lost", "client_id", *"aba"), [("session.lost", 0)] * 2),
    # Reasons of one word are different kinds, sentences one; every gap has its line.
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
