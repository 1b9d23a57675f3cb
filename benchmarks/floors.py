"""
The least that an event's steps can take here, each by itself and without a server.

Owns these steps: msgspec alone, a row in SQLite, a record in a batch, a thread that
wakes another. What is left out of each is the bridge's own work around it. What
receiving takes at the least stands with `receiving`.
"""

from __future__ import annotations

import resource
import sqlite3  # noqa: TID251 - as the outbox has it, and nothing around it
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from aiokafka.record.default_records import (  # noqa: TID251 - as the bridge has it
    DefaultRecordBatchBuilder,
)

from benchmarks.contract import LOADS
from benchmarks.contract import measure as measure_contract
from benchmarks.contract_report import Step
from benchmarks.traffic import Traffic


__all__ = ["DECODE", "HANDOVER", "RECORD", "ROW", "measure"]

DECODE = "frame and payload, by msgspec alone"
ROW = "row in SQLite: written, committed, deleted"
RECORD = "record in a batch, by aiokafka's builder in C, without headers"
HANDOVER = "a thread wakes another, by a lock"

_ROUNDS = 7

# As many as the outbox commits at once in a flood, and gives one statement.
_COMMITTED = 2048
_ROWS_A_STATEMENT = 512

# Larger than the batch: it is never full.
_BATCH_BYTES = 2**20

_HANDOVERS = 2_000
_HANDOVER_SECONDS = 30.0

# Columns as the outbox's, and its pages.
_TABLE = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE rows (
    position INTEGER PRIMARY KEY, ce_id TEXT, envelope INTEGER,
    received_at_us INTEGER, key BLOB, value BLOB, checksum INTEGER
)
"""
_PLACES = ",".join(["(?,?,?,?,?,?,?)"] * _ROWS_A_STATEMENT)
_INSERT = f"INSERT INTO rows VALUES {_PLACES}"  # noqa: S608 - no words of others


def measure(rounds: int = _ROUNDS) -> dict[str, float]:
    """
    Time each step.

    Args:
        rounds: How often each.

    Returns:
        CPU us of each step, medians.
    """
    contract = measure_contract(rounds, LOADS[:1])
    (decode,) = [cost.spread.median for cost in contract if cost.step is Step.FLOOR]
    traffic = Traffic(_COMMITTED)
    events = [
        (traffic.request_id(index).encode(), payload.encode())
        for index, payload in enumerate(traffic.payloads())
    ]
    with (
        tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder,
        closing(_database(Path(folder) / "rows")) as connection,
    ):
        rows = [_row_us(connection, events) for _ in range(rounds)]
    return {
        DECODE: decode,
        ROW: statistics.median(rows),
        RECORD: statistics.median(_record_us(events) for _ in range(rounds)),
        HANDOVER: statistics.median(_handover_us() for _ in range(rounds)),
    }


_Events = Sequence[tuple[bytes, bytes]]


def _database(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.executescript(_TABLE)
    return connection


def _row_us(connection: sqlite3.Connection, events: _Events) -> float:
    parameters = [
        [
            column
            for place, (key, value) in enumerate(events[start:end], start)
            # Of a bytearray sqlite3 asks nobody how to store it.
            for column in (
                *(place, f"prefix-{place}", 1, place),
                *(bytearray(key), bytearray(value), place),
            )
        ]
        for start, end in _slices(len(events))
    ]

    def work() -> None:
        connection.execute("BEGIN IMMEDIATE")
        for some in parameters:
            connection.execute(_INSERT, some)
        connection.execute("COMMIT")
        connection.execute("DELETE FROM rows WHERE position >= 0")

    return _us(work) / len(events)


def _slices(length: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, _ROWS_A_STATEMENT):
        yield start, start + _ROWS_A_STATEMENT


def _record_us(events: _Events) -> float:
    def work() -> None:
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _BATCH_BYTES)
        for place, (key, value) in enumerate(events):
            builder.append(place, 0, key, value, [])
        builder.build()

    return _us(work) / len(events)


def _handover_us() -> float:
    """Let two threads wake each other in turn; both threads' CPU counts."""
    here, there = threading.Lock(), threading.Lock()
    here.acquire()
    there.acquire()

    def answer() -> None:
        for _ in range(_HANDOVERS):
            there.acquire(timeout=_HANDOVER_SECONDS)
            here.release()

    thread = threading.Thread(target=answer)
    thread.start()
    started = _process_seconds()
    for _ in range(_HANDOVERS):
        there.release()
        here.acquire(timeout=_HANDOVER_SECONDS)
    used = _process_seconds() - started
    thread.join()
    return used * 1e6 / (2 * _HANDOVERS)


def _us(work: Callable[[], None]) -> float:
    """Take the CPU time of this thread, the second time: the first fills caches."""
    work()
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / 1e3


def _process_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
