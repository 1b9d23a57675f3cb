"""
Folds repeated log lines: the first of a kind passes, the rest are counted.

A broker outage makes aiokafka log 40 lines a second (measured); whoever reads
the log needs the first of them and a count. What a line looks like belongs to
`logs`.
"""

from __future__ import annotations

import copy
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass


__all__ = ["Folding", "FoldingHandler"]

# One line per kind and half a minute: an hour's outage is 120 lines of a kind.
_WINDOW_SECONDS = 30.0

# A kind is a line of code somewhere. All of aiokafka, asyncio, httpx and the
# bridge have some 300 that log, and five of them are told for each account: 200
# accounts in one outage are 1,000 more. With fewer kinds than come in turn nothing
# is folded any more. A kind holds one record, 2 KiB.
_MOST_KINDS = 4096

# A library's ready-made sentence has no template: what changes in it is mostly
# a number or an address.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+")
_TEMPLATE_CHARACTERS = 200

# The fields that tell apart whom an event of the bridge is about.
_SUBJECT_FIELDS = ("client_id", "topic", "topics", "partition")

# Why something was refused, in one word: anybody's noise must not hide a wrong secret.
# A sentence varies, and tells nothing apart.
_REASON_FIELD = "reason"

# Each gap is told, though some come within seconds, and none comes twice.
_ONCE_FIELD = "gap_id"


@dataclass(slots=True)
class _Kind:
    opened: float
    repeats: int = 0
    last: logging.LogRecord | None = None


class Folding:
    """
    Decides which records pass; not thread-safe: its handler holds a lock.

    A kind is a logger, a level and a template, never a formatted text. Its
    window opens with the record that passes. When the window ends, a summary
    of what was held back comes out and the next window opens; a window without
    repeats ends the kind, and its next record passes again.

    Args:
        clock: Monotonic seconds.
        window_seconds: How long a kind is held back after a line of it.
        most_kinds: How many kinds are told apart at once.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        window_seconds: float = _WINDOW_SECONDS,
        most_kinds: int = _MOST_KINDS,
    ) -> None:
        self._clock = clock
        self._window_seconds = window_seconds
        self._most_kinds = most_kinds
        # In the order of `opened`: a reopened kind moves to the end.
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """
        Take one record and return those to be written now, in order.

        Args:
            record: A record of the standard library or of structlog, in which
                case its message is still the dictionary of the event.
        """
        passing = self.due()
        kind = _kind_of(record)
        if kind is None:
            return [*passing, record]
        known = self._kinds.get(kind)
        if known is not None:
            known.repeats += 1
            known.last = _condensed(record)
            return passing
        if len(self._kinds) >= self._most_kinds:
            _, oldest = self._kinds.popitem(last=False)
            passing.extend(self._summary(oldest))
        self._kinds[kind] = _Kind(opened=self._clock())
        return [*passing, record]

    def due(self) -> list[logging.LogRecord]:
        """Return the summaries of all windows that have ended."""
        now = self._clock()
        passing: list[logging.LogRecord] = []
        while self._kinds:
            kind, state = next(iter(self._kinds.items()))
            if now - state.opened < self._window_seconds:
                break
            if state.repeats:
                passing.extend(self._summary(state))
                self._kinds[kind] = _Kind(opened=now)
                self._kinds.move_to_end(kind)
            else:
                del self._kinds[kind]
        return passing

    def drain(self) -> list[logging.LogRecord]:
        """Return the summaries of everything held back, and forget all kinds."""
        passing = [
            summary
            for state in self._kinds.values()
            for summary in self._summary(state)
        ]
        self._kinds.clear()
        return passing

    def _summary(self, state: _Kind) -> list[logging.LogRecord]:
        """Make the line of a window; none if nothing was held back."""
        if state.last is None:
            return []
        record = state.last
        record.repeated = state.repeats
        record.within_seconds = round(self._clock() - state.opened, 1)
        record.created = time.time()
        return [record]


class FoldingHandler(logging.Handler):
    """
    A log handler that folds before another one writes.

    Args:
        inner: Formats and writes what passes.
        folding: Decides what passes.
    """

    def __init__(self, inner: logging.Handler, folding: Folding) -> None:
        super().__init__()
        self._inner = inner
        self._folding = folding

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it. `handle` holds the handler's lock."""
        for passing in self._folding.admit(record):
            self._inner.handle(passing)

    def report(self) -> None:
        """Write the summaries that are due, though nothing new is logged."""
        self.acquire()
        try:
            for passing in self._folding.due():
                self._inner.handle(passing)
        finally:
            self.release()

    def close(self) -> None:
        """Write all that was held back: `logging` calls this at the very end."""
        self.acquire()
        try:
            for passing in self._folding.drain():
                self._inner.handle(passing)
        finally:
            self.release()
        super().close()


def _kind_of(record: logging.LogRecord) -> Hashable | None:
    """
    Tell what kind of line a record is.

    None: it is never folded. Those are the bridge's own lines below a warning, and
    those of gaps; each of them says something that happened once.
    """
    if isinstance(record.msg, dict):
        if record.levelno < logging.WARNING or _ONCE_FIELD in record.msg:
            return None
        subject = tuple(str(record.msg.get(field)) for field in _SUBJECT_FIELDS)
        reason = str(record.msg.get(_REASON_FIELD))
        if reason.isidentifier():
            subject = (*subject, reason)
        return (record.name, record.levelno, record.msg.get("event"), subject)
    template = str(record.msg)
    if not record.args:
        first_line = template.partition("\n")[0][:_TEMPLATE_CHARACTERS]
        template = _VARYING.sub("#", first_line)
    return (record.name, record.levelno, template)


def _condensed(record: logging.LogRecord) -> logging.LogRecord:
    """
    Copy a record without what would keep frames and arguments alive.

    The first of its kind was written with its traceback.
    """
    brief = copy.copy(record)
    if isinstance(record.msg, dict):
        brief.msg = {**record.msg}
        brief.msg.pop("exc_info", None)
        brief.msg.pop("stack_info", None)
    else:
        brief.msg = record.getMessage()
        brief.args = ()
    brief.exc_info = brief.exc_text = brief.stack_info = None
    return brief
