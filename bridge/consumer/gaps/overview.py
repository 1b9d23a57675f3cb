"""
What a topic of gaps holds: each gap once, and all of them together.

Owns which of a gap's records counts, which gaps are wanted, and what is kept while a
topic of any size is read. How it looks stands in `view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bridge.consumer.gaps.gap import Gap, NoGapError, State, as_gap
from bridge.consumer.reading import OnProgress, nobody_watches, read_through
from bridge.kafka.reader import ConsumedRecord
from bridge.settings import KafkaSettings


__all__ = ["Choice", "Folded", "NoGap", "Overview", "Totals", "gaps_of"]

# 50 MB of them: one every quarter of an hour for three years.
_MOST_GAPS = 100_000
# Of what is no gap, as many are named.
_NAMED = 3

_ORDER = list(State)


@dataclass(frozen=True, slots=True)
class NoGap:
    """
    A record that is no gap.

    Attributes:
        place: Where it stands: topic-partition@offset.
        reason: What is wrong with it.
    """

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Which gaps are wanted.

    Attributes:
        client_id: Those of this account; None for all.
        cause: Those of this cause; None for all.
        since: Those that were open at that moment or later; None for all.
        is_open: Only those that are open.
        has_unknown: Only those with jobs of which nobody can tell.
    """

    client_id: str | None = None
    cause: str | None = None
    since: datetime | None = None
    is_open: bool = False
    has_unknown: bool = False

    def wants(self, gap: Gap) -> bool:
        """Whether a gap is one of them."""
        return (
            self.client_id in {None, gap.client_id}
            and self.cause in {None, gap.cause}
            and (self.since is None or gap.until is None or gap.until >= self.since)
            and not (self.is_open and gap.state is not State.OPEN)
            and not (self.has_unknown and not gap.unknown)
        )


@dataclass(slots=True)
class Totals:
    """
    Gaps together.

    Attributes:
        states: How many are open, closed and settled.
        causes: How many there are of each cause, and how many seconds they were.
        seconds: How long they were, as far as that is known.
        jobs_in_flight: Jobs that were unfinished, as far as that is known; one of two
            gaps counts twice, here and below.
        healed_by_status_endpoint: How many the status endpoint healed.
        healed_by_webhook: How many webhooks did.
        unknown: Of how many nobody can tell.
    """

    states: dict[State, int]
    causes: dict[str, tuple[int, float]] = field(default_factory=dict)
    seconds: float = 0.0
    jobs_in_flight: int = 0
    healed_by_status_endpoint: int = 0
    healed_by_webhook: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, gaps: Iterable[Gap]) -> Totals:
        """Add gaps up."""
        totals = cls(dict.fromkeys(State, 0))
        for gap in gaps:
            seconds = gap.seconds or 0.0
            count, before = totals.causes.get(gap.cause, (0, 0.0))
            totals.causes[gap.cause] = count + 1, before + seconds
            totals.states[gap.state] += 1
            totals.seconds += seconds
            totals.jobs_in_flight += gap.jobs_in_flight or 0
            totals.healed_by_status_endpoint += gap.healed_by_status_endpoint or 0
            totals.healed_by_webhook += gap.healed_by_webhook or 0
            totals.unknown += gap.unknown or 0
        return totals


@dataclass(frozen=True, slots=True)
class Overview:
    """
    What a topic of gaps holds of those that are wanted.

    Attributes:
        gaps: Each once, the newest first.
        totals: The same together.
        no_gaps: How many records are no gap.
        named: The first of those.
        left_out: How many gaps had no room; those that came first.
        causes: All causes that any gap has, wanted or not.
    """

    gaps: Sequence[Gap]
    totals: Totals
    no_gaps: int
    named: Sequence[NoGap]
    left_out: int
    causes: Sequence[str]


class Folded:
    """
    Takes records, and keeps what counts of each gap.

    Args:
        most: How many gaps are kept.
    """

    def __init__(self, most: int = _MOST_GAPS) -> None:
        self._most = most
        self._gaps: dict[str, Gap] = {}
        self._no_gaps = 0
        self._named: list[NoGap] = []
        self._left_out = 0

    def take(self, record: ConsumedRecord) -> None:
        """Take the next record of its partition."""
        try:
            gap = as_gap(record)
        except NoGapError as error:
            self._no_gaps += 1
            if len(self._named) < _NAMED:
                place = f"{record.topic}-{record.partition}@{record.offset}"
                self._named.append(NoGap(place, str(error)))
            return
        known = self._gaps.get(gap.gap_id)
        if known is None:
            if len(self._gaps) >= self._most:
                del self._gaps[next(iter(self._gaps))]
                self._left_out += 1
        # A record can come twice, and the second time behind a later one.
        elif _ORDER.index(gap.state) < _ORDER.index(known.state):
            return
        self._gaps[gap.gap_id] = gap

    def overview(self, choice: Choice) -> Overview:
        """Give what is wanted of it."""
        wanted = [gap for gap in self._gaps.values() if choice.wants(gap)]
        return Overview(
            gaps=sorted(wanted, key=lambda gap: gap.moment, reverse=True),
            totals=Totals.of(wanted),
            no_gaps=self._no_gaps,
            named=self._named,
            left_out=self._left_out,
            causes=sorted({gap.cause for gap in self._gaps.values()}),
        )


async def gaps_of(
    settings: KafkaSettings,
    topic: str,
    choice: Choice,
    *,
    on_progress: OnProgress = nobody_watches,
) -> Overview:
    """
    Read a topic of gaps to the ends that it has now.

    It is read from its beginning whatever is wanted: a gap that is still open may have
    begun long ago.

    Args:
        settings: How to reach the brokers.
        topic: What to read.
        choice: Which gaps are wanted.
        on_progress: Is told how far it has come.

    Raises:
        KafkaError: The topic can't be read; the subclass says why.
        ConfigError: A certificate or key can't be used.
    """
    folded = Folded()

    async def take(run: Iterable[ConsumedRecord]) -> bool:
        for record in run:
            folded.take(record)
        return False

    await read_through(settings, topic, take, on_progress=on_progress)
    return folded.overview(choice)
