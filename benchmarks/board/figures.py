"""
What browsers noted and a process took, as few figures.

Only arithmetic: where notes come from is `browsers`' and `runs`' own, how figures are
shown `report`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from benchmarks.figures import percentile
from benchmarks.machine import Machine


__all__ = [
    "BoardRun",
    "BoardRuns",
    "Fetched",
    "Kind",
    "Note",
    "Notes",
    "Ordinary",
    "PageRun",
    "Seen",
    "Slow",
    "growth_a_second",
    "ordinary",
    "percentiles_ms",
    "slow",
]

# What is older than this is not what is true now: an update's period and some more.
_NEW_US: Final = 1_000_000

# Of a memory's series the first half is left out: what a load needs is taken then.
_LEAD_PART: Final = 1 / 2


class Kind(StrEnum):
    """How a browser reads."""

    ORDINARY = "ordinary"
    WATCHING = "watching"
    SLOW = "slow"
    PAUSING = "pausing"
    STOPPED = "stopped"


class Note(msgspec.Struct, array_like=True):
    """
    One message, as a browser noted it; moments are microseconds since the epoch.

    Attributes:
        arrived_us: When it was whole.
        size: Bytes of its JSON.
        made_us: When the board made it.
        newest_us: The latest record's moment among its jobs; 0 where it has none.
        lag: Offsets before the topic's end, as it says.
        reading: How reading stands, as it says.
        browsers: How many are told, as it says.
    """

    arrived_us: int
    size: int
    made_us: int
    newest_us: int
    lag: int
    reading: str
    browsers: int


class Seen(msgspec.Struct):
    """
    All that one browser noted.

    Attributes:
        kind: How it reads.
        notes: Its messages, the snapshot first.
        took_us: When each watched record arrived, and how long it took since its
            writing.
        resumed_us: When it read again after each of its pauses.
        was_ended: Whether the board ended the stream.
    """

    kind: Kind
    notes: list[Note] = []
    took_us: list[tuple[int, int]] = []
    resumed_us: list[int] = []
    was_ended: bool = False

    def between(self, begin_us: int, end_us: int) -> list[Note]:
        """Give the messages that arrived in a time."""
        return [note for note in self.notes if begin_us <= note.arrived_us < end_us]


class Notes(msgspec.Struct):
    """
    What the program of browsers writes.

    Attributes:
        seen: What each noted.
        refusal: The status that one browser too many was answered with; None where none
            has asked.
    """

    seen: list[Seen]
    refusal: int | None


class Ordinary(msgspec.Struct):
    """
    What browsers that read at once were given.

    Attributes:
        updates_a_second: The median browser's.
        fewest_a_second: The one's that had fewest.
        update_bytes: The median update's size.
        bytes_a_second: The median browser's.
        age_ms: p50 and p99 of how long the newest record of an update had been there
            when it arrived; None where nothing came.
        sent_ms: p50 and p99 from the making of an update to its arrival.
    """

    updates_a_second: float
    fewest_a_second: float
    update_bytes: float
    bytes_a_second: float
    age_ms: tuple[float, float] | None
    sent_ms: tuple[float, float] | None


class Slow(msgspec.Struct):
    """
    What browsers of one slow kind were given.

    Attributes:
        kind: Which.
        browsers: How many.
        updates: How many messages the median one had.
        sent_ms: p50 and p99 from the making of a message to its arrival.
        stale: How many messages, at most, came after a pause before one that was made
            less than a second ago; None without a pause.
        new_again_ms: How long that took at most.
        ended: How many of their streams the board ended.
    """

    kind: Kind
    browsers: int
    updates: float
    sent_ms: tuple[float, float] | None
    stale: int | None
    new_again_ms: float | None
    ended: int


class BoardRun(msgspec.Struct):
    """
    What one run gave.

    Attributes:
        rate: Events a second that were to be written.
        browsers: How many, without the one that watches.
        seconds: How long.
        events: How many records the broker took meanwhile.
        cores: CPU seconds a second, of all threads.
        threads: The same for each thread.
        others_cores: Of what has no part in the run.
        rest_bytes: Resident before the load, all browsers there, its tables full.
        peak_bytes: The most that was seen.
        series: (seconds, resident bytes) all along.
        growth_bytes_a_second: How the last half of it rises.
        catch_up_seconds: From the board's start until it had read what was there.
        lag: Offsets before the topic's end, in the last update of the load.
        told: How many streams the board had at the end, as it says.
        delay_ms: p50 and p99 from a record's writing to its arrival in a browser that
            looks for it; None at rest.
        ordinary: What browsers that read at once got.
        slow: What the others got.
        refusal: The status for one browser too many.
    """

    rate: int
    browsers: int
    seconds: float
    events: int
    cores: float
    threads: dict[str, float]
    others_cores: float
    rest_bytes: int
    peak_bytes: int
    series: list[tuple[float, int]]
    growth_bytes_a_second: float
    catch_up_seconds: float
    lag: int
    told: int
    delay_ms: tuple[float, float] | None
    ordinary: Ordinary
    slow: list[Slow]
    refusal: int | None


class PageRun(msgspec.Struct):
    """
    How the page ran in a browser.

    Attributes:
        seconds: How long it was looked at.
        frames: How many were drawn.
        long_ms: How long each task took that blocked the page for 50 ms or more.
        pictures: How many previews it fetched.
        cards: How many jobs it showed at the end.
        task_seconds: CPU of the page's thread.
        script_seconds: Of that, for its scripts.
        layout_seconds: Of that, for styles and layout.
        rate: Events a second that were written meanwhile.
    """

    seconds: float
    frames: int
    long_ms: list[float]
    pictures: int
    cards: int
    task_seconds: float
    script_seconds: float
    layout_seconds: float
    rate: int = 0


class Fetched(msgspec.Struct):
    """
    What a preview costs that a browser fetches.

    Attributes:
        cpu_us: The board's CPU.
        size: Bytes of its image.
    """

    cpu_us: float
    size: float


class BoardRuns(msgspec.Struct):
    """
    All runs of a benchmark.

    Attributes:
        moment: When they ended, as file names have it.
        machine: Where.
        updates_per_second: The board's setting.
        runs: They, in order.
        page: How the page ran beside the last rate; None where no browser is.
        fetched: What a preview cost.
    """

    moment: str
    machine: Machine
    updates_per_second: int
    runs: list[BoardRun]
    page: PageRun | None = None
    fetched: Fetched | None = None


def percentiles_ms(took_us: Sequence[int]) -> tuple[float, float] | None:
    """Give p50 and p99 in milliseconds; None for nothing."""
    if not took_us:
        return None
    return percentile(took_us, 50) / 1000, percentile(took_us, 99) / 1000


def growth_a_second(series: Sequence[tuple[float, int]]) -> float:
    """Give the slope of the last half of a series; 0 where there is none."""
    tail = series[int(len(series) * _LEAD_PART) :]
    if len(tail) < 2:
        return 0.0
    moments, sizes = zip(*tail, strict=True)
    return statistics.linear_regression(moments, sizes).slope


def ordinary(seen: Iterable[Seen], begin_us: int, end_us: int) -> Ordinary:
    """Sum up what ordinary browsers, at least one, got in a time."""
    each = [one.between(begin_us, end_us) for one in seen if one.kind is Kind.ORDINARY]
    seconds = (end_us - begin_us) / 1e6
    notes = [note for mine in each for note in mine]
    rates = [len(mine) / seconds for mine in each]
    return Ordinary(
        updates_a_second=statistics.median(rates),
        fewest_a_second=min(rates),
        update_bytes=statistics.median(note.size for note in notes) if notes else 0.0,
        bytes_a_second=statistics.median(
            sum(note.size for note in mine) / seconds for mine in each
        ),
        age_ms=percentiles_ms(
            [note.arrived_us - note.newest_us for note in notes if note.newest_us]
        ),
        sent_ms=_sent_ms(notes),
    )


def slow(seen: Iterable[Seen], begin_us: int) -> list[Slow]:
    """Sum up what slow browsers got from a moment on, those of a kind together."""
    by_kind: dict[Kind, list[Seen]] = {}
    for one in seen:
        if one.kind not in {Kind.ORDINARY, Kind.WATCHING}:
            by_kind.setdefault(one.kind, []).append(one)
    return [_slow(kind, all_of, begin_us) for kind, all_of in by_kind.items()]


def _slow(kind: Kind, seen: Sequence[Seen], begin_us: int) -> Slow:
    each = [[note for note in one.notes if note.made_us >= begin_us] for one in seen]
    pauses = [
        _after(notes, resumed_us)
        for one, notes in zip(seen, each, strict=True)
        for resumed_us in one.resumed_us
        if resumed_us >= begin_us
    ]
    known = [pause for pause in pauses if pause is not None]
    return Slow(
        kind=kind,
        browsers=len(seen),
        updates=statistics.median(map(len, each)),
        sent_ms=_sent_ms([note for notes in each for note in notes]),
        stale=max((stale for stale, _ in known), default=None),
        new_again_ms=max((took for _, took in known), default=None),
        ended=sum(one.was_ended for one in seen),
    )


def _after(notes: Sequence[Note], resumed_us: int) -> tuple[int, float] | None:
    """Tell how many old messages came after a pause, and how long until a new one."""
    later = [note for note in notes if note.arrived_us >= resumed_us]
    for stale, note in enumerate(later):
        if note.arrived_us - note.made_us < _NEW_US:
            return stale, (note.arrived_us - resumed_us) / 1000
    return None


def _sent_ms(notes: Iterable[Note]) -> tuple[float, float] | None:
    return percentiles_ms([note.arrived_us - note.made_us for note in notes])
