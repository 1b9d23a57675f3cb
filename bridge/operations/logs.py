"""
Sets up logging for the process: one stream and one format, for every library.

The bridge logs through structlog, libraries through the standard library; both look the
same. No line has a secret, or anything that a terminal obeys.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from bridge.text import printable, redact


__all__ = ["RepeatFilter", "configure"]

# Below a warning, libraries' lines are noise, and at debug HTTP clients print headers.
_OWN: Final = "bridge"

# A payload has up to 16 MiB.
_LONGEST_TEXT: Final = 8192

# Nothing that the bridge logs is deeper but an exception's chain.
_DEEPEST: Final = 8

# The innermost frames say where; the outer ones are the same for every task.
_MOST_FRAMES: Final = 20

# An hour's outage is 120 lines of a kind; aiokafka logs 40 a second (measured).
_WINDOW_SECONDS: Final = 30.0

# Some 300 lines of code log in aiokafka, asyncio, httpx and the bridge. Five of them do
# so for each account: 200 accounts in one outage are 1,000 more.
_MOST_KINDS: Final = 4096


def configure(
    format: Literal["console", "json"] | None = None,  # noqa: A002 - the setting's name
    level: str = "info",
    stream: TextIO | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """
    Send all logging of this process to one stream; may be called again.

    Args:
        format: `console` for people, `json` for machines, None for `console` on a
            terminal and `json` elsewhere.
        level: The minimum level: `debug`, `info`, `warning`, `error` or `critical`.
        stream: The stream; None for standard output, as container platforms expect. A
            command whose output is data passes standard error.
        clock: Monotonic seconds, for the limit of repeated lines.

    Raises:
        ValueError: The level is none of those.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if not threshold:
        raise ValueError(f"unknown log level {level!r}")
    stream = sys.stdout if stream is None else stream
    is_terminal = stream.isatty()
    if format is None:
        format = "console" if is_terminal else "json"  # noqa: A001 - as above
    render: list[Processor] = [
        _describe_exception,
        _clean,
        structlog.processors.JSONRenderer(),
    ]
    if format == "console":
        console = structlog.dev.ConsoleRenderer(
            # https://no-color.org: set and not empty.
            colors=is_terminal and not os.environ.get("NO_COLOR"),
            exception_formatter=structlog.dev.plain_traceback,
        )
        render = [_print_exception, _clean, console]

    handler = logging.StreamHandler(stream)
    render.insert(0, _name_fields)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=render))
    handler.addFilter(RepeatFilter(clock))
    handler.addFilter(_without_traceback)
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger(_OWN).setLevel(threshold)
    logging.captureWarnings(True)

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A module's logger is made at import, before the settings are known.
        cache_logger_on_first_use=False,
    )


# -- From a record to a line -----------------------------------------------------------


def _without_traceback(record: logging.LogRecord) -> bool:
    """Log what a broker answers in one line: aiokafka adds tracebacks."""
    if record.name.startswith("aiokafka") and record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        record.msg = f"{record.getMessage()}: {type(error).__name__}: {error}"
        record.args, record.exc_info = (), None
    return True


def _name_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Put the standard fields first."""
    record: logging.LogRecord = event.pop("_record")
    del event["_from_structlog"]
    moment = datetime.fromtimestamp(record.created, UTC)
    named: EventDict = {
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event", ""),
    }
    if repeats := getattr(record, "repeats", 0):
        named["repeats"] = repeats
    named.update({name: event[name] for name in event if name not in named})
    return named


_describe = ExceptionDictTransformer(show_locals=False, max_frames=_MOST_FRAMES)


def _describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    error = _exception_of(event)
    if error is not None:
        event["exception"] = _describe((type(error), error, error.__traceback__))
    return event


def _print_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    error = _exception_of(event)
    if error is not None:
        trace = "".join(traceback.format_exception(error, limit=-_MOST_FRAMES))
        # Of a long chain the last exception matters.
        event["exception"] = redact(trace.rstrip())[-_LONGEST_TEXT:]
    return event


def _exception_of(event: EventDict) -> BaseException | None:
    """Remove `exc_info` from an event, in any of the forms that logging knows."""
    found = event.pop("exc_info", None)
    if isinstance(found, tuple):
        found = found[1]
    elif found is True:
        found = sys.exc_info()[1]
    return found if isinstance(found, BaseException) else None


def _clean(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Reduce every value to what JSON has: short, encodable, without secrets."""
    return {_text(str(name)): _plain(value, _DEEPEST) for name, value in event.items()}


def _plain(value: object, depth: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        digits = str(value)
        return value if redact(digits) == digits else redact(digits)
    if depth and isinstance(value, Mapping):
        return {_text(str(key)): _plain(one, depth - 1) for key, one in value.items()}
    if depth and isinstance(value, list | tuple | AbstractSet):
        return [_plain(one, depth - 1) for one in value]
    if isinstance(value, BaseException):
        return _text(f"{type(value).__qualname__}: {value}")
    return _text(str(value))


def _text(text: str) -> str:
    # Redacted before it is cut: half a secret would not be found.
    return printable(redact(text), _LONGEST_TEXT, keep="\t\n")


# -- Repeated lines --------------------------------------------------------------------

# What varies in a message without a template is mostly a number or an address.
_VARYING: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")
_TEMPLATE_CHARACTERS: Final = 200

# Whom an event of the bridge is about.
_SUBJECT_FIELDS: Final = ("client_id", "topic", "topics", "partition")


class _Kind(msgspec.Struct):
    since: float
    repeats: int = 0


class RepeatFilter(logging.Filter):
    """
    Passes one line of a kind in 30 s; the next one has the number of the others.

    A kind is a logger, a level and a template; of the bridge's own lines event, subject
    and a reason of one word. Its lines below a warning and those of a gap always pass:
    each of them reports something that happened once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # By the time of the last line that passed.
        self._kinds: dict[Hashable, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether a record passes, and give it its number of repeats."""
        name = _kind_of(record)
        if name is None:
            return True
        now = self._clock()
        with self._lock:
            kind = self._kinds.get(name)
            if kind is not None and now - kind.since < _WINDOW_SECONDS:
                kind.repeats += 1
                return False
            record.repeats = self._kinds.pop(name).repeats if kind is not None else 0
            self._kinds[name] = _Kind(now)
            if len(self._kinds) > _MOST_KINDS:
                del self._kinds[next(iter(self._kinds))]
        return True


def _kind_of(record: logging.LogRecord) -> Hashable | None:
    if not isinstance(record.msg, dict):
        template = str(record.msg)
        if not record.args:
            first_line = template.partition("\n")[0][:_TEMPLATE_CHARACTERS]
            template = _VARYING.sub("#", first_line)
        return (record.name, record.levelno, template)
    event = record.msg
    if record.levelno < logging.WARNING or "gap_id" in event:
        return None
    subject = [str(event.get(field)) for field in _SUBJECT_FIELDS]
    # A sentence varies. A word distinguishes a wrong secret from random requests.
    reason = str(event.get("reason"))
    if reason.isidentifier():
        subject.append(reason)
    return (record.name, record.levelno, event.get("event"), *subject)
