"""Tests of folding repeated log lines, on a clock that the test turns."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

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


def test_first_of_a_kind_passes_and_repeats_do_not(
    handler: FoldingHandler, lines: Lines
) -> None:
    """The kind is the template: another broker in it is a repeat."""
    for node in range(5):
        handler.handle(_record("Unable to connect to node %s", node))
    assert lines.seen == [("Unable to connect to node 0", 0)]


def test_outage_becomes_two_lines_a_minute(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """Of 40 lines a second, an hour's outage leaves a first line and summaries."""
    for _ in range(40 * 3600):
        handler.handle(_record("Unable to connect to node %s", 1))
        clock.seconds += 1 / 40
    handler.close()
    assert lines.seen[0] == ("Unable to connect to node 1", 0)
    assert 119 <= len(lines.seen[1:]) <= 121
    assert 1 + sum(repeated for _, repeated in lines.seen) == 40 * 3600


def test_summary_carries_the_last_text_and_the_count(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """The line after 30 s says what was repeated and how often."""
    for node in (1, 2, 3):
        handler.handle(_record("Unable to connect to node %s", node))
    clock.seconds += 30
    handler.report()
    assert lines.seen[1:] == [("Unable to connect to node 3", 2)]


def test_no_summary_before_the_window_ends(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """A summary comes every 30 s at most."""
    handler.handle(_record("again"))
    handler.handle(_record("again"))
    clock.seconds += 29.9
    handler.report()
    assert lines.seen == [("again", 0)]


def test_quiet_kind_passes_again(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """What comes more rarely than every 30 s is never held back."""
    for _ in range(3):
        handler.handle(_record("now and then"))
        clock.seconds += 31
    assert lines.seen == [("now and then", 0)] * 3


def test_summary_comes_with_any_later_line(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """A summary that is due is written before the next line of another kind."""
    handler.handle(_record("again"))
    handler.handle(_record("again"))
    clock.seconds += 40
    handler.handle(_record("something else"))
    assert lines.seen == [("again", 0), ("again", 1), ("something else", 0)]


@pytest.mark.parametrize(
    "change",
    [
        lambda: _record("again", name="aiokafka.cluster"),
        lambda: _record("again", level=logging.WARNING),
        lambda: _record("another template"),
    ],
)
def test_kinds_are_told_apart(
    handler: FoldingHandler, lines: Lines, change: Callable[[], logging.LogRecord]
) -> None:
    """Logger, level and template make a kind: a change of one passes."""
    handler.handle(_record("again"))
    handler.handle(change())
    assert len(lines.seen) == 2


def test_ready_made_sentences_fold_by_what_stays_the_same(
    handler: FoldingHandler, lines: Lines
) -> None:
    """A library's sentence without template is a kind but for its numbers."""
    handler.handle(_record("Task 17 at 0x7f3a failed\nfuture: <Task one>"))
    handler.handle(_record("Task 18 at 0x9bc1 failed\nfuture: <Task two>"))
    handler.handle(_record("Unclosed client 19"))
    assert [text.partition(" ")[0] for text, _ in lines.seen] == ["Task", "Unclosed"]


def test_information_of_the_bridge_is_never_folded(
    handler: FoldingHandler, lines: Lines
) -> None:
    """What the bridge says below a warning happened as often as it says."""
    for _ in range(3):
        handler.handle(_event("session.subscribed", logging.INFO, client_id="a"))
    assert len(lines.seen) == 3


def test_warnings_of_the_bridge_fold_for_each_subject(
    handler: FoldingHandler, lines: Lines
) -> None:
    """Two accounts that fail are two kinds; one that fails twice is one."""
    for client in ("a", "b", "a", "b"):
        handler.handle(_event("session.lost", client_id=client, code=4200))
    assert len(lines.seen) == 2


def test_reasons_of_one_word_are_told_apart(
    handler: FoldingHandler, lines: Lines
) -> None:
    """Noise doesn't hide what is wrong; reasons that are sentences fold."""
    for reason in ("missing_header", "wrong_signature") * 2:
        handler.handle(_event("webhook.refused", client_id="a", reason=reason))
    assert len(lines.seen) == 2
    for number in range(3):
        reason = f"answered with HTTP {500 + number}"
        handler.handle(_event("reconciliation.away", reason=reason))
    assert len(lines.seen) == 3


def test_every_gap_has_its_line(handler: FoldingHandler, lines: Lines) -> None:
    """Gaps of one account that open within seconds are not one event repeated."""
    for number in range(3):
        handler.handle(_event("gap.opened", client_id="a", gap_id=f"gap-{number}"))
    assert len(lines.seen) == 3


def test_an_outage_of_many_accounts_is_folded_for_each(
    handler: FoldingHandler, lines: Lines
) -> None:
    """200 accounts fail in turn, with a gap each: one line of each event for each."""
    events = ("session.lost", "session.failed", "session.server_error")
    for turn in range(5):
        for account in range(200):
            gap_id = f"gap-{turn}-{account}"
            handler.handle(_event("gap.opened", client_id=account, gap_id=gap_id))
            for event in events:
                handler.handle(_event(event, client_id=account))
    told = Counter(text for text, _ in lines.seen)
    assert told == {"gap.opened": 5 * 200, **dict.fromkeys(events, 200)}


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


def test_memory_is_bounded(clock: Clock, lines: Lines) -> None:
    """The oldest kind makes room, and its count is written, not lost."""
    handler = FoldingHandler(lines, Folding(clock, most_kinds=3))
    handler.handle(_record("kind a"))
    handler.handle(_record("kind a"))
    for kind in ("kind b", "kind c", "kind d"):
        handler.handle(_record(kind))
    assert lines.seen == [
        ("kind a", 0),
        ("kind b", 0),
        ("kind c", 0),
        ("kind a", 1),
        ("kind d", 0),
    ]


def test_closing_writes_what_was_held_back(
    handler: FoldingHandler, lines: Lines
) -> None:
    """At the end of the process no count is lost."""
    handler.handle(_record("again"))
    handler.handle(_record("again"))
    handler.close()
    assert lines.seen == [("again", 0), ("again", 1)]


def test_threads_lose_no_count(
    handler: FoldingHandler, clock: Clock, lines: Lines
) -> None:
    """Threads that log the same at once are all counted."""

    def log_many() -> None:
        for _ in range(500):
            handler.handle(_record("again"))

    threads = [threading.Thread(target=log_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()
    assert lines.seen == [("again", 0), ("again", 4 * 500 - 1)]
