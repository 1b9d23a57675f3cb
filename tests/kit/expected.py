"""What a scene's topics are, and what is expected of their records.

Owns what `tests.kit.judge` is asked. It imports nothing of the bridge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.kit.reader import Record


class Kind(StrEnum):
    """What a topic is for."""

    JOBS = "jobs"
    DEAD_LETTERS = "dead letters"
    GAPS = "gaps"
    PREVIEWS = "previews"


@dataclass(frozen=True)
class ReadTopic:
    """A topic that was read to its end."""

    kind: Kind
    name: str
    records: Sequence[Record]
    partitions: Collection[int]


@dataclass(frozen=True)
class Counts:
    """What one bridge process counted by its end; gaps apart."""

    came: int
    published: int
    dead_lettered: int = 0
    dropped: int = 0
    waiting: int = 0
    resent: int = 0


@dataclass(frozen=True)
class Expected:
    """
    What a scene expects; by default that nothing out of the ordinary happened.

    Attributes:
        accepted: The events of each job in order, as `label` names them; None where
            that is not known.
        missing: How many of them are neither on `jobs` nor a dead letter; None for
            any number.
        unsure: Jobs whose events may be missing beside that.
        label: Names an event by its record's value.
        committed: Label by `ce_id` of what an outbox's file showed; for records of
            other topics than `jobs` their values.
        only_committed: Whether `committed` is all that a topic may have.
        repeats: Whether a record may come again with the same identity and content.
        salvaged: Whether one may come again from a damaged outbox's successor, with
            the successor's own number.
        holes: Numbers that may be missing: topic, partition, `bridge_sequence`.
        marks: Words that may occur in `bridge_anomaly` and `bridge_normalized`.
        origins: Values that may occur in `bridge_origin`.
        headers: Optional headers that may occur beside those of marks, refusals,
            truncation and replays.
        dead_letters: How many there are of each reason, None for any number.
        gaps: Causes of each account's gaps in the order of opening, with `|` between
            those of which either will do; None for any.
        open_gaps: How many of them were never closed; None for any number.
        sources: Values that `ce_source` may have; None for any.
        outboxes: Values that `bridge_outbox` may have; None for any.
        framed: Whether a Schema Registry's five bytes precede JSON values.
        timestamps: Whether the producer's timestamps were kept by the topic.
        counts: What each process counted at its end; None where that is not known.
        all_counted: Whether that is every process that wrote to the topics.
        secrets: What may appear nowhere.
    """

    accepted: Mapping[str, Sequence[object]] | None = None
    missing: int | None = 0
    unsure: Collection[str] = ()
    label: Callable[[bytes], object] = bytes
    committed: Mapping[str, object] = field(default_factory=dict)
    only_committed: bool = False
    repeats: bool = False
    salvaged: bool = False
    holes: Collection[tuple[str, int, int]] = ()
    marks: Collection[str] = ()
    origins: Collection[str] = ("socket",)
    headers: Collection[str] = ()
    dead_letters: Mapping[str, int | None] = field(default_factory=dict)
    gaps: Mapping[str, Sequence[str]] | None = None
    open_gaps: int | None = 0
    sources: Collection[str] | None = None
    outboxes: Collection[str] | None = None
    framed: bool = False
    timestamps: bool = True
    counts: Sequence[Counts] | None = None
    all_counted: bool = True
    secrets: Collection[str] = ()
