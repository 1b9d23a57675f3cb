"""An outbox without a thread: the real tables behind the relay's port.

What the thread does between commits happens here at once, and in the order in
which the real one does it: acknowledgements wait for the next commit.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from bridge.outbox.inbox import Acknowledged
from bridge.outbox.opening import open_outbox
from bridge.outbox.rows.lane import Run

from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.store import Placed, Store
from bridge.outbox.values import Delivered, LaneState


__all__ = ["PlainOutbox"]

_T = TypeVar("_T")
_MAX_BYTES = 2**30
_ROWS = 10_000


class PlainOutbox:
    """The outbox of one life of a process.

    Attributes:
        opened: The topics whose lanes were opened in this life.

    Args:
        path: The database file.
    """

    def __init__(self, path: Path) -> None:
        self._opened = open_outbox(path, _MAX_BYTES)
        self._store: Store = self._opened.store
        self._path = path
        self._is_closed = False
        self.opened: set[str] = set()
        self._runs: list[Acknowledged] = []
        self._on_committed: Callable[[list[Placed]], None] = lambda _: None
        self._on_claimed: Callable[[list[tuple[str, int, int]]], None] = lambda _: None

    @property
    def id(self) -> str:
        """The file's UUID."""
        return self._opened.id

    @property
    def pending(self) -> int:
        """Rows that wait."""
        self.commit([])
        return self._store.pending

    def quarantined(self) -> set[bytes]:
        """Values of the rows in quarantine."""
        rows = self._opened.connection.execute("SELECT value FROM quarantine")
        return {bytes(value) for (value,) in rows}

    def close(self) -> None:
        """End as a process does that is killed: what isn't committed is lost."""
        self._is_closed = True
        self._opened.connection.close()

    def copy_to(self, path: Path) -> None:
        """Take a copy of the committed file."""
        self._store.file.checkpoint()
        shutil.copy(self._path, path)

    # -- What a thread would do ------------------------------------------------

    def commit(self, records: Sequence[Record]) -> None:
        """Make one transaction of what has gathered."""
        self._change(lambda store: store.append(records) if records else [])

    def _change(self, work: Callable[[Store], list[Placed]]) -> None:
        store = self._store
        with store.transaction():
            for topic, partition, run, envelopes in self._runs:
                store.acknowledge(topic, partition, run, envelopes)
            placed = work(store)
            placed += store.added
            claimed = store.claim(_ROWS, _MAX_BYTES)
        self._runs.clear()
        if placed:
            self._on_committed(placed)
        if claimed:
            self._on_claimed(claimed)

    def _ask(self, question: Callable[[Store], _T]) -> Future[_T]:
        if self._is_closed:
            return _cancelled()
        self.commit([])
        with self._store.reading():
            return _done(question(self._store))

    def _do(self, change: Callable[[Store], _T]) -> Future[_T]:
        if self._is_closed:
            return _cancelled()
        results: list[_T] = []

        def work(store: Store) -> list[Placed]:
            results.append(change(store))
            return []

        self._change(work)
        return _done(results[0])

    # -- The relay's port ------------------------------------------------------

    def subscribe(
        self,
        on_committed: Callable[[list[Placed]], None],
        on_claimed: Callable[[list[tuple[str, int, int]]], None],
        on_replaced: Callable[[], None],
    ) -> None:
        """Name who is told; this file is never replaced."""
        del on_replaced
        self._on_committed, self._on_claimed = on_committed, on_claimed

    def lane_states(self) -> Future[list[LaneState]]:
        """As `OutboxPort`."""
        return self._ask(lambda store: store.lane_states())

    def waiting_topics(self) -> Future[set[str]]:
        """As `OutboxPort`."""
        return self._ask(lambda store: store.waiting_topics())

    def open_topic(
        self,
        topic: str,
        partition_of: Callable[[bytes | None], int],
        opened: dict[int, tuple[int, int]],
        topic_id: str | None,
        unplaced: Mapping[int, Mapping[str, int]],
        *,
        former_partition_of: Callable[[bytes | None], int] | None = None,
    ) -> Future[None]:
        """As `OutboxPort`."""
        self.opened.add(topic)
        return self._do(
            lambda store: store.open_topic(
                topic,
                partition_of,
                opened,
                topic_id,
                unplaced,
                former_partition_of=former_partition_of,
            )
        )

    def read(
        self, topic: str, partition: int, after: int, max_rows: int, max_bytes: int
    ) -> Future[list[StoredRecord]]:
        """As `OutboxPort`."""
        return self._ask(
            lambda store: store.read(topic, partition, after, max_rows, max_bytes)
        )

    def acknowledge(  # noqa: PLR0917 - as `OutboxPort`
        self,
        topic: str,
        partition: int,
        first_sequence: int,
        last_sequence: int,
        base_offset: int,
        size_bytes: int,
        envelopes: Mapping[Envelope, int] | None = None,
    ) -> None:
        """As `OutboxPort`: known with the next commit."""
        now_us = time.time_ns() // 1000
        run = Run(first_sequence, last_sequence, base_offset, now_us, size_bytes)
        self._runs.append((topic, partition, run, envelopes))

    def delivered(
        self, topic: str, partition: int, after: int, max_rows: int
    ) -> Future[list[Delivered]]:
        """As `OutboxPort`."""
        return self._ask(
            lambda store: store.delivered(topic, partition, after, max_rows)
        )

    def rewind(
        self,
        topic: str,
        partition: int,
        sequence: int,
        resume_offset: int,
        resent_sequence: int,
    ) -> Future[int]:
        """As `OutboxPort`."""
        return self._do(
            lambda store: store.rewind(
                topic, partition, sequence, resume_offset, resent_sequence
            )
        )

    def refuse(
        self, topic: str, partition: int, sequence: int, dead_letter: Record
    ) -> Future[None]:
        """As `OutboxPort`."""
        return self._do(
            lambda store: store.refuse(topic, partition, sequence, dead_letter)
        )

    def quarantine(
        self, topic: str, partition: int, sequence: int, reason: str
    ) -> Future[None]:
        """As `OutboxPort`."""
        return self._do(
            lambda store: store.quarantine(topic, partition, sequence, reason)
        )


def _done(result: _T) -> Future[_T]:
    future: Future[_T] = Future()
    future.set_result(result)
    return future


def _cancelled() -> Future[Any]:
    """What the real one gives when it has ended."""
    future: Future[Any] = Future()
    future.cancel()
    return future
