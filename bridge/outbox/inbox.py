"""
What other threads have laid down for the outbox's own thread.

Each part has one side that adds and one that takes away, so that nobody waits
for anybody. What is done with it is decided in `writer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog

from bridge.events.record import Envelope, Record
from bridge.outbox.bell import Bell
from bridge.outbox.buffer import Buffer
from bridge.outbox.proofs import Proofs
from bridge.outbox.requests import Requests
from bridge.outbox.rows.lane import Run
from bridge.outbox.spending import Spending


__all__ = ["Acknowledged", "Inbox", "Kept"]

_log = structlog.get_logger("bridge.outbox")


Acknowledged = tuple[str, int, Run, Mapping[Envelope, int] | None]


class Kept(msgspec.Struct, frozen=True):
    """
    A gap record, and what it does to the gaps that are open.

    Attributes:
        record: It.
        opens: A gap that is remembered from it on, with its value.
        closes: A gap that is forgotten with it.
    """

    record: Record
    opens: str | None = None
    closes: str | None = None


class Inbox:
    """
    All that waits for the next transaction.

    Args:
        max_bytes: What the records in memory may weigh.
        lighten: Gives a record without its preview, None if it has none.

    Attributes:
        buffer: Records that were read.
        proofs: That accounts were heard.
        reserved: Gap records: no bound holds them up.
        acknowledged: Runs that Kafka has: topic, partition, run, and how many of its
            rows have which envelope.
        changes: Requests that belong into a transaction.
        questions: Requests that only read.
        takes: Webhooks that are to be held; those that find no room fail at once.
        healings: Requests that belong behind what was offered before them.
        spending: What accounts have asked of the status endpoint.
        bell: Rung when something was laid down that must be looked at.
        is_stopping: Whether the thread is to finish.
        is_closed: Whether it has ended, so that nobody comes by any more.
        awaits_room: Whether the thread waits for room on disk: more records are
            no reason to look for it again.
    """

    def __init__(
        self, max_bytes: int, lighten: Callable[[Record], Record | None]
    ) -> None:
        self.buffer = Buffer(max_bytes, lighten)
        self.proofs = Proofs(self.buffer)
        self.reserved: deque[Kept] = deque()
        self.acknowledged: deque[Acknowledged] = deque()
        self.changes = Requests()
        self.questions = Requests()
        self.takes = Requests()
        self.healings = Requests()
        self.spending = Spending()
        self.is_stopping = False
        self.is_closed = False
        self.awaits_room = False
        self.bell = Bell()

    @property
    def is_relaxed(self) -> bool:
        """Whether there is room again, in memory and on disk."""
        return self.buffer.is_relaxed and not self.awaits_room

    def acknowledged_up_to(self, topic: str, partition: int) -> int:
        """Give the last row of a lane that Kafka has, of those told of here; or 0."""
        runs = [
            run
            for *lane, run, _ in list(self.acknowledged)
            if lane == [topic, partition]
        ]
        return max((run.last_sequence for run in runs), default=0)

    def reserve(self, kept: Kept) -> None:
        """Lay a gap record down; what comes too late is given up at once."""
        self.reserved.append(kept)
        self.bell.ring()
        # Looked at after appending: either the thread saw it at its end, or it is
        # seen here that it has ended.
        if self.is_closed:
            self.give_up_reserved()

    def give_up_reserved(self) -> None:
        """Tell of gap records that nobody will write any more."""
        count = 0
        with suppress(IndexError):
            while True:
                self.reserved.popleft()
                count += 1
        if count:
            _log.error("outbox.gave_up", gap_records=count)

    def cancel_requests(self) -> None:
        """Cancel the requests that speak of a file that is gone."""
        self.changes.cancel()
        self.questions.cancel()

    def close(self) -> None:
        """Cancel the requests that wait and whatever comes from now on."""
        self.is_closed = True
        for requests in (self.changes, self.questions, self.takes, self.healings):
            requests.close()
