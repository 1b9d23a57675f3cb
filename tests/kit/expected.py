"""What a scene's topics are, and what is expected of their records."""

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
    """What a scene expects; by default that nothing out of the ordinary happened."""

    accepted: Mapping[str, Sequence[object]] | None = None
    missing: int | None = 0
    unsure: Collection[str] = ()
    label: Callable[[bytes], object] = bytes
    committed: Mapping[str, object] = field(default_factory=dict)
    only_committed: bool = False
    repeats: bool = False
    salvaged: bool = False
    marks: Collection[str] = ()
    origins: Collection[str] = ("socket",)
    headers: Collection[str] = ()
    dead_letters: Mapping[str, int | None] = field(default_factory=dict)
    gaps: Mapping[str, Sequence[str]] | None = None
    open_gaps: int | None = 0
    sources: Collection[str] | None = None
    framed: bool = False
    counts: Sequence[Counts] | None = None
    all_counted: bool = True
    secrets: Collection[str] = ()
