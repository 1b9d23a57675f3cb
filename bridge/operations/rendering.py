"""
Turns a log record into a line: fields, exceptions, plain values, no secret.

These are structlog processors, each of which takes and returns the dictionary
of an event. Which of them run, and where lines go, belongs to `logs`.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from logging import LogRecord
from types import TracebackType

from structlog.typing import EventDict, WrappedLogger

from bridge.redaction import redact


__all__ = ["clean", "describe_exception", "json_line", "name_fields", "print_exception"]

# One line must not fill a log: a payload is up to 16 MiB.
_LONGEST_TEXT = 8192

# Deeper values are shown as text. Nothing that the bridge logs is nested more
# than twice; the bound is for an exception's chain and for cycles.
_DEEPEST = 5

# The innermost frames say where; the outer ones are the same for every task.
_MOST_FRAMES = 20
_MOST_EXCEPTIONS = 8

# C0 and C1 controls but tab and newline: text from a server must not steer the
# reader's terminal.
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\t\n"
}


def name_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the standard fields first: timestamp, level, logger, event, repeated."""
    record: LogRecord = event.pop("_record")
    del event["_from_structlog"]
    moment = datetime.fromtimestamp(record.created, UTC)
    named: EventDict = {
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event", ""),
    }
    repeats: int = getattr(record, "repeated", 0)
    if repeats:
        named["repeated"] = repeats
        named["within_seconds"] = getattr(record, "within_seconds", 0.0)
    named.update((key, value) for key, value in event.items() if key not in named)
    return named


def describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by an object: type, message, traceback, cause."""
    error = _exception_of(event)
    if error is not None:
        event["exception"] = _description(error, _DEEPEST)
    return event


def print_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the traceback that Python would print."""
    error = _exception_of(event)
    if error is not None:
        trace = "".join(traceback.format_exception(error, limit=-_MOST_FRAMES))
        # Of a long chain the end counts: the last exception and its message.
        event["exception"] = redact(trace.rstrip())[-_LONGEST_TEXT:]
    return event


def clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Reduce every value to plain data: short, encodable, without secrets."""
    return {_text(str(key)): _plain(value, _DEEPEST) for key, value in event.items()}


def json_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Render an event that was cleaned as one line of JSON, in ASCII."""
    return json.dumps(event, separators=(",", ":"))


def _exception_of(event: EventDict) -> BaseException | None:
    """Take `exc_info` out of an event, in any of the forms that logging knows."""
    found = event.pop("exc_info", None)
    if isinstance(found, BaseException):
        return found
    if isinstance(found, tuple):
        error = found[1]
        return error if isinstance(error, BaseException) else None
    return sys.exc_info()[1] if found else None


def _description(error: BaseException, depth: int) -> dict[str, object]:
    """Describe an exception and, down to a depth, what it came from."""
    described: dict[str, object] = {
        "type": _type_name(error),
        "message": str(error),
        "traceback": list(_frames(error.__traceback__))[-_MOST_FRAMES:],
    }
    if depth <= 1:
        return described
    if isinstance(error, BaseExceptionGroup):
        described["exceptions"] = [
            _description(inner, depth - 1)
            for inner in error.exceptions[:_MOST_EXCEPTIONS]
        ]
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is not None:
        described["cause"] = _description(cause, depth - 1)
    return described


def _type_name(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _frames(trace: TracebackType | None) -> Iterator[str]:
    """Yield `file:line in function`, the innermost last; never a local value."""
    for frame, line in traceback.walk_tb(trace):
        code = frame.f_code
        yield f"{code.co_filename}:{line} in {code.co_qualname}"


def _plain(value: object, depth: int) -> object:
    """Reduce a value to what JSON has, with every text redacted."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if depth > 0 and isinstance(value, Mapping):
        return {
            _text(str(key)): _plain(inner, depth - 1) for key, inner in value.items()
        }
    if depth > 0 and isinstance(value, list | tuple | AbstractSet):
        return [_plain(inner, depth - 1) for inner in value]
    if isinstance(value, BaseException):
        return _text(f"{_type_name(value)}: {value}")
    return _text(str(value))


def _number(value: float) -> float | str:
    """Keep a number that JSON knows and that is no secret."""
    digits = str(value)
    if redact(digits) != digits or not math.isfinite(value):
        return redact(digits)
    return value


def _text(text: str) -> str:
    """Redact first, then cut: half a secret would not be recognised."""
    text = redact(text)
    if len(text) > _LONGEST_TEXT:
        left_out = len(text) - _LONGEST_TEXT
        text = f"{text[:_LONGEST_TEXT]}… ({left_out} more characters)"
    text = text.translate(_CONTROLS)
    # A lone surrogate can't be written to a UTF-8 stream.
    return text.encode("utf-8", "backslashreplace").decode()
