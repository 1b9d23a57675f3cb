"""
Sets up logging for the process: one stream, one renderer, for every library.

The bridge logs through structlog, libraries through the standard library; both
come out alike. How a line is made stands in `rendering`, what is folded in
`folding`. Nothing here decides what is logged.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

import structlog
import trio
from structlog.typing import Processor

from bridge.operations.folding import Folding, FoldingHandler
from bridge.operations.rendering import (
    clean,
    describe_exception,
    json_line,
    name_fields,
    print_exception,
)
from bridge.operations.tables import with_tables
from bridge.redaction import hide, redact


__all__ = ["configure", "hide", "redact", "report_repeats"]

# What libraries say below a warning is noise here, and at debug httpcore prints
# request headers: a level below is for the bridge's own rooms alone.
_OWN = "bridge"

# Its background tasks log with a traceback what brokers answer.
_CLIENT = "aiokafka"

# Often enough that a summary is never late by more than a sixth of its window.
_REPORT_INTERVAL_SECONDS = 5.0


def configure(
    format: Literal["console", "json"] | None = None,  # noqa: A002 - the setting's name
    level: str = "info",
    stream: TextIO | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """
    Send all logging of this process to one stream; may be called again.

    Both forms go to standard output, as a container's platform expects: the
    service prints nothing else there. A command whose output is data passes
    standard error.

    Args:
        format: `console` for people, `json` for machines, None for `console`
            on a terminal and `json` elsewhere.
        level: The least severe level that is written: `debug`, `info`,
            `warning`, `error` or `critical`.
        stream: Where lines go; None for standard output as it is now.
        clock: Monotonic seconds for the folding of repeated lines.

    Raises:
        ValueError: The level is none of those.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if not threshold:
        raise ValueError(f"unknown log level {level!r}")
    stream = sys.stdout if stream is None else stream
    on_terminal = stream.isatty()
    if format is None:
        format = "console" if on_terminal else "json"  # noqa: A001 - as above

    writer = logging.StreamHandler(stream)
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=_processors(format, on_terminal))
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if isinstance(handler, FoldingHandler):
            handler.close()
    handler = FoldingHandler(writer, Folding(clock))
    handler.addFilter(_without_traceback)
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


async def report_repeats() -> None:
    """
    Write the counts of folded lines when nothing new is logged; run as a task.

    Ends only by being cancelled. What is still held back when the process
    ends is written then.
    """
    while True:
        await trio.sleep(_REPORT_INTERVAL_SECONDS)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, FoldingHandler):
                handler.report()


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say a client's error in a line: what a broker answers is no defect here."""
    if record.name.startswith(_CLIENT) and record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        record.msg = f"{record.getMessage()}: {type(error).__name__}: {error}"
        record.args, record.exc_info = (), None
    return True


def _processors(format: str, on_terminal: bool) -> list[Processor]:  # noqa: A002, FBT001 - one caller
    """Choose the chain from record to line."""
    if format == "json":
        return [name_fields, describe_exception, clean, json_line]
    console = structlog.dev.ConsoleRenderer(
        # https://no-color.org: set and not empty.
        colors=on_terminal and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [name_fields, print_exception, clean, with_tables(console)]
