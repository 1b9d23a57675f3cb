"""What a model broker's logs hold, and what can become of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto


# A record with this in its value is refused wherever it is sent.
POISON = b"poison"

# How long the model takes for an answer.
ANSWER_SECONDS = 0.004


class Fault(Enum):
    """What becomes of the next batch for a partition."""

    # Not appended, and said so.
    FAILED = auto()
    # Appended, but said to have failed.
    FAILED_AFTER_APPEND = auto()
    # Not appended now, but later, when everybody has given it up.
    LATE = auto()


class CommitFault(Enum):
    """What becomes of the next commit; its answer is lost."""

    # It never arrives.
    LOST = auto()
    # It is applied.
    APPLIED = auto()
    # It arrives later, when everybody has given it up.
    LATE = auto()


@dataclass(frozen=True)
class Written:
    """A record in a log."""

    offset: int
    outbox: bytes | None  # None for another program's
    ce_id: bytes
    sequence: bytes
    key: bytes | None
    value: bytes
    is_marked: bool
    is_late: bool = False  # its producer had been abandoned
    transaction: int | None = None


@dataclass
class Log:
    """A partition's log."""

    records: list[Written | None] = field(default_factory=list)  # None: a marker
    begin_offset: int = 0

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return len(self.records)
