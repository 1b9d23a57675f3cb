"""Tests of the process's log: what comes out, and what never does."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import structlog
import trio
import trio.testing

from bridge.operations import logs


pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def out() -> io.StringIO:
    """The stream under test."""
    return io.StringIO()


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def _lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_line_has_the_standard_fields(out: io.StringIO) -> None:
    """Timestamp in UTC, level, logger and event come first; fields follow."""
    logs.configure("json", stream=out)
    before = datetime.now(UTC)
    structlog.get_logger("bridge.room").info("room.entered", door=2, who=["a", None])
    (line,) = _lines(out)
    assert list(line) == ["timestamp", "level", "logger", "event", "door", "who"]
    moment = datetime.fromisoformat(str(line.pop("timestamp")))
    assert before <= moment <= datetime.now(UTC)
    assert line == {
        "level": "info",
        "logger": "bridge.room",
        "event": "room.entered",
        "door": 2,
        "who": ["a", None],
    }


def test_console_line_names_everything(out: io.StringIO) -> None:
    """The line for people has time, level, event, logger and fields."""
    logs.configure("console", stream=out)
    structlog.get_logger("bridge.room").warning("room.locked", door=2)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z \[warning *\] room\.locked +"
        r"\[bridge\.room\] door=2\n",
        out.getvalue(),
    )


def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Colours come on a terminal, and not under NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, colourful = Terminal(), Terminal()
    logs.configure("console", stream=colourful)
    structlog.get_logger("bridge.room").info("room.entered")
    monkeypatch.setenv("NO_COLOR", "1")
    logs.configure("console", stream=plain)
    structlog.get_logger("bridge.room").info("room.entered")
    assert "\x1b[" in colourful.getvalue()
    assert "\x1b[" not in plain.getvalue()


def test_level_is_a_threshold(out: io.StringIO) -> None:
    """What is less severe is not written, from the bridge or a library."""
    logs.configure("json", "warning", out)
    structlog.get_logger("bridge.room").info("room.entered")
    logging.getLogger("somebody").info("hello")
    structlog.get_logger("bridge.room").error("room.burning")
    assert [line["event"] for line in _lines(out)] == ["room.burning"]


@pytest.mark.parametrize(
    "name",
    [
        "aiokafka.client",
        "asyncio",
        "httpx",
        "httpcore.http11",
        # Not `trio_websocket`, as one might think.
        "trio-websocket",
        "opentelemetry.sdk",
        "somebody.new",
    ],
)
def test_libraries_are_tamed_even_at_debug(out: io.StringIO, name: str) -> None:
    """A library's chatter stays out at any level; its warnings come."""
    logs.configure("json", "debug", out)
    logging.getLogger(name).debug("sent headers")
    logging.getLogger(name).info("POST https://example.test")
    logging.getLogger(name).warning("trouble")
    structlog.get_logger("bridge.room").debug("room.detail")
    assert [line["event"] for line in _lines(out)] == ["trouble", "room.detail"]


def _fail_twice() -> None:
    try:
        _fail(KeyError("inner"))
    except KeyError as error:
        raise trio.BrokenResourceError("outer") from error


def _fail(error: Exception) -> None:
    a_local = "local-value".upper()
    if a_local:
        raise error


def test_exception_is_a_list_in_json(out: io.StringIO) -> None:
    """Type and message of the exception and its cause stand in fields."""
    logs.configure("json", stream=out)
    try:
        _fail_twice()
    except trio.BrokenResourceError:
        structlog.get_logger("bridge.room").exception("room.burning")
    (line,) = _lines(out)
    assert line["level"] == "error"
    outer, inner = cast("list[dict[str, Any]]", line["exception"])
    assert (outer["exc_type"], outer["exc_value"]) == ("BrokenResourceError", "outer")
    assert (inner["exc_type"], inner["is_cause"]) == ("KeyError", True)
    assert outer["frames"][-1]["name"] == "_fail_twice"
    assert "LOCAL-VALUE" not in out.getvalue()


def _chain(depth: int) -> Exception:
    """Make an exception with a chain of causes."""
    error: Exception = ValueError("the first of all")
    for level in range(1, depth + 1):
        outer = RuntimeError(f"level {level}")
        outer.__cause__ = error
        error = outer
    return error


def test_a_long_chain_of_exceptions_is_cut() -> None:
    """For people the last exception matters, and the end."""
    console = io.StringIO()
    logs.configure("console", stream=console)
    structlog.get_logger("bridge.room").error("room.burning", exc_info=_chain(200))
    assert 8192 < len(console.getvalue()) < 8192 + 200
    assert console.getvalue().endswith("RuntimeError: level 200\n")


def test_console_prints_a_plain_traceback(out: io.StringIO) -> None:
    """People get the traceback that they know, without local values."""
    logs.configure("console", stream=out)
    try:
        _fail(ValueError("boom"))
    except ValueError:
        structlog.get_logger("bridge.room").exception("room.burning")
    assert "Traceback (most recent call last)" in out.getvalue()
    assert "ValueError: boom" in out.getvalue()
    assert "LOCAL-VALUE" not in out.getvalue()


CANARY = 'c4nary"tok\\en\n5'


def test_every_value_makes_a_line(out: io.StringIO) -> None:
    """What JSON doesn't know, and what terminals obey, comes out as text."""
    logs.configure("json", stream=out)
    cycle: dict[str, object] = {}
    cycle["self"] = cycle
    structlog.get_logger("bridge.room").info(
        "room.odd\x1b[2J",
        nan=float("nan"),
        raw=b"\xff",
        when=datetime(2025, 1, 1, tzinfo=UTC),
        surrogate="\ud800",
        error=TimeoutError("too late"),
        several=(1, frozenset({True}), {3: None}),
        cycle=cycle,
        long="y " * 10_000,
    )
    (line,) = _lines(out)
    assert line["event"] == "room.odd\\x1b[2J"
    assert line["nan"] == "nan"
    assert line["raw"] == "b'\\xff'"
    assert line["when"] == "2025-01-01 00:00:00+00:00"
    assert line["surrogate"] == "\\ud800"
    assert line["error"] == "TimeoutError: too late"
    assert line["several"] == [1, [True], {"3": None}]
    assert str(line["long"]) == "y " * 4096 + "…"


def test_a_client_error_is_a_line(out: io.StringIO) -> None:
    """Kafka's client logs what brokers answer; a traceback is for defects."""
    logs.configure("json", stream=out)
    error = ValueError("code 90")
    log = logging.getLogger("aiokafka.producer.sender")
    log.error("Unexpected error in %s", "sender", exc_info=error)
    (entry,) = _lines(out)
    assert entry["event"] == "Unexpected error in sender: ValueError: code 90"
    assert "exception" not in entry
