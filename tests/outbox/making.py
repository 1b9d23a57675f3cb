"""
Records, stores and running outboxes for the tests of this folder.

What a single test module needs stands there; nothing here asserts.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from bridge.outbox.disk.schema import new_incarnation, open_database
from bridge.outbox.rows.lane import Run

from bridge.events import header_names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.store import Placed, Store
from bridge.settings import OutboxSettings


ENVELOPE = Envelope("https://api/clients/7", "a.type", "socket", "application/json")

MIB = 2**20

# Topic, partition, last sequence, and the rows if they were told.
_News = tuple[str, int, int, list[StoredRecord]]

# Far above everything that the tests here write.
PLENTY_BYTES = 1024 * MIB


def record(key: str | None, value: bytes = b"{}", topic: str = "jobs") -> Record:
    """Make a record; its key also decides its partition."""
    return Record(topic, None if key is None else key.encode(), value, 1, ENVELOPE)


def source_of(account: int) -> str:
    """Give an account's `ce_source`."""
    return f"https://api/clients/{account}"


def event(
    job: str,
    status: str = "in_progress",
    at_us: int = 1,
    account: int = 7,
    progress: str | None = None,
) -> Record:
    """Make the record of a job's status, as the intake does."""
    told = {"request_id": job, "status": status, "progress": progress}
    envelope = Envelope(
        source_of(account), header_names.JOB_STATUS_TYPE, "socket", "application/json"
    )
    return Record(
        "jobs",
        job.encode(),
        json.dumps(told | {"preview": None, "result_url": None}).encode(),
        at_us,
        envelope,
        status=status,
        progress=progress,
    )


def numbered(first: int, count: int, size: int = 10, keys: int = 7) -> list[Record]:
    """Make records whose values begin with their number."""
    return [
        record(f"job-{number % keys}", f"{number}:".encode().ljust(size, b"x"))
        for number in range(first, first + count)
    ]


def number_of(row: StoredRecord | Record) -> int:
    """Read back the number that `numbered` gave."""
    return int(row.value.split(b":")[0])


def spread(partitions: int) -> Callable[[bytes | None], int]:
    """Make a partitioner."""
    return lambda key: zlib.crc32(key or b"") % partitions


def fresh(partitions: int, end_offset: int = 0) -> dict[int, tuple[int, int]]:
    """Say that the log shows nothing of this outbox."""
    return dict.fromkeys(range(partitions), (0, end_offset))


@contextmanager
def stored(path: Path) -> Iterator[Store]:
    """Open a store, as a new process would."""
    store = Store(
        open_database(path, max_bytes=PLENTY_BYTES), incarnation=new_incarnation()
    )
    try:
        yield store
    finally:
        store.close()


def open_jobs(store: Store, partitions: int = 1) -> None:
    """Open the topic `jobs` with an empty log."""
    with store.transaction():
        store.open_topic("jobs", spread(partitions), fresh(partitions), None)


class AbandonedError(Exception):
    """A transaction is given up."""


@contextmanager
def undone(store: Store) -> Iterator[None]:
    """Have a transaction fail after all that is done inside."""
    with suppress(AbandonedError), store.transaction():
        yield
        raise AbandonedError


def append(store: Store, records: list[Record]) -> list[StoredRecord]:
    """Append in a transaction of its own; give the rows that got a lane."""
    with store.transaction():
        placed = store.append(records)
    return [row for _, _, rows in placed for row in rows]


def acknowledge(  # noqa: PLR0917 - a run's numbers
    store: Store, first: int, last: int, base_offset: int, at_us: int = 0, size: int = 1
) -> None:
    """Acknowledge rows of the first partition of `jobs`."""
    with store.transaction():
        store.acknowledge("jobs", 0, Run(first, last, base_offset, at_us, size))


def read_all(store: Store, partition: int = 0, after: int = 0) -> list[StoredRecord]:
    """Read a lane of `jobs`, over whatever was skipped."""
    rows: list[StoredRecord] = []
    while more := store.read("jobs", partition, after, 1000, PLENTY_BYTES):
        rows += more
        after = rows[-1].sequence
    return rows


class Log:
    """
    The relay's and Kafka's part: takes rows, remembers them, acknowledges.

    It works in a thread of its own from entry to exit.

    Args:
        outbox: Whose rows it takes.
        delivers: Whether it acknowledges.
    """

    def __init__(self, outbox: Outbox, *, delivers: bool = True) -> None:
        self.rows: dict[tuple[str, int], list[StoredRecord]] = {}
        self.delivers = delivers
        self._outbox = outbox
        self._news: SimpleQueue[_News | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._outbox.subscribe(self._committed, self._claimed, lambda: None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._news.put(None)
        self._thread.join(20)

    def _committed(self, placed: list[Placed]) -> None:
        for topic, partition, rows in placed:
            self._news.put((topic, partition, rows[-1].sequence, rows))

    def _claimed(self, lanes: list[tuple[str, int, int]]) -> None:
        for topic, partition, last in lanes:
            self._news.put((topic, partition, last, []))

    def _work(self) -> None:
        while (news := self._news.get()) is not None:
            topic, partition, last, rows = news
            lane = self.rows.setdefault((topic, partition), [])
            while (after := lane[-1].sequence if lane else 0) < last:
                if not rows or rows[0].sequence != after + 1:
                    rows = self._outbox.read(topic, partition, after, 500, MIB).result(
                        10
                    )
                self._deliver(topic, partition, lane, rows)
                rows = []

    def _deliver(
        self,
        topic: str,
        partition: int,
        lane: list[StoredRecord],
        rows: list[StoredRecord],
    ) -> None:
        base_offset = len(lane)
        lane += rows
        if self.delivers:
            self._outbox.acknowledge(
                topic,
                partition,
                rows[0].sequence,
                rows[-1].sequence,
                base_offset,
                sum(len(row.value) for row in rows),
            )


@contextmanager
def running(path: Path, **limits: Any) -> Iterator[Outbox]:
    """Run an outbox in its thread; stops it at the end and raises what it raised."""
    with OutboxDirectory(path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=path, **limits))
        with threaded(outbox):
            yield outbox


@contextmanager
def threaded(outbox: Outbox) -> Iterator[threading.Thread]:
    """Run an outbox that exists already."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            outbox.run()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        outbox.stop()
        thread.join(20)
        if errors:
            raise errors[0]


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until something holds; TimeoutError if it doesn't."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about")
        time.sleep(0.005)
