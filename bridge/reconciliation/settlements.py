"""
What is known of the jobs of gaps that have closed.

Owns the books and nothing else: no clock, no calls. A gap that closes is to be settled:
of each job that was in flight it has to be found out whether the gap swallowed its
end. A job that waits for several gaps is found out about once, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final

from bridge.outbox.values import JobInFlight
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.order import Key
from bridge.reconciliation.ports import Settle
from bridge.reconciliation.statistics import ReconciliationStatistics


__all__ = ["MAX_ENTRIES", "Fate", "Settlements"]

# A job of a gap takes about 100 bytes, so these take 50 MB: ten gaps, each with all of
# the 50,000 jobs that the outbox remembers by default.
MAX_ENTRIES: Final = 500_000


class Fate(StrEnum):
    """What is known of a job of a gap."""

    GOES_ON = "goes_on"
    """It was heard of since the gap, or dryAPI says that it still runs: its end is
    still to come."""

    ENDED = "ended"
    """Its end was written, whoever told it."""

    UNKNOWN = "unknown"
    """Nobody knows. It is corrected when somebody does."""


class _Settlement:
    """
    One gap.

    Attributes:
        number: The how-manieth that closed.
        gap_id: The gap.
        at: When it closed, as whoever keeps the books tells time.
        until_us: When it ended, by the clock of jobs' times.
        waiting: Its jobs to be found out about.
        unknown: Its jobs that nobody knows of, and that may still be corrected.
        given_up: How many more there are that can't be corrected any more.
        told: The number of unknown jobs that was told last; None before the first time.
        is_complete: Whether all of its jobs are here.
    """

    __slots__ = (
        "at",
        "gap_id",
        "given_up",
        "is_complete",
        "number",
        "told",
        "unknown",
        "until_us",
        "waiting",
    )

    def __init__(self, number: int, gap_id: str, at: float, until_us: int) -> None:
        self.number = number
        self.gap_id = gap_id
        self.at = at
        self.until_us = until_us
        self.waiting: set[Key] = set()
        self.unknown: set[Key] = set()
        self.given_up = 0
        self.told: int | None = None
        self.is_complete = False


class Settlements:
    """
    The books of all accounts' gaps.

    They are bounded by the number of jobs in them, each counted once for each of its
    gaps: above `max_entries` the oldest gap goes, for good. Its jobs of which nothing
    is known yet are unknown then, whatever becomes of them.

    Args:
        settle: Takes how many jobs of a gap are unknown: when none waits any more, and
            again whenever that changes.
        statistics: Where jobs that wait and that are unknown are counted.
        max_entries: How many jobs, counted for each gap, are kept.

    Attributes:
        latest: The number of the gap that closed last; they count from 1.
    """

    def __init__(
        self,
        settle: Settle,
        statistics: ReconciliationStatistics,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self.latest = 0
        self._settle = settle
        self._statistics = statistics
        self._max_entries = max_entries
        self._entries = 0
        # In the order in which they closed.
        self._gaps: dict[str, _Settlement] = {}
        self._of: dict[Key, list[_Settlement]] = {}
        self._jobs: dict[str, dict[Key, JobInFlight]] = {}
        # How many gaps wait for a job that any waits for.
        self._waits: dict[Key, int] = {}

    # -- What is in the books --------------------------------------------------

    def jobs(self, client_id: str) -> dict[Key, JobInFlight]:
        """Give an account's jobs that wait or are unknown, as they were then."""
        return dict(self._jobs.get(client_id, {}))

    def job(self, key: Key) -> JobInFlight | None:
        """Give one of them; None if it isn't in the books."""
        return self._jobs.get(key[0], {}).get(key)

    def waits(self, key: Key) -> bool:
        """Whether any gap waits for a job."""
        return key in self._waits

    def waiting(self, gap_id: str) -> list[Key]:
        """Give the jobs that a gap waits for."""
        gap = self._gaps.get(gap_id)
        return [] if gap is None else list(gap.waiting)

    # -- What changes them -----------------------------------------------------

    def begin(
        self, gap_id: str, at: float, unknown: int = 0, *, until_us: int = 0
    ) -> bool:
        """
        Enter a gap that has closed; its jobs follow with `add`, and then `complete`.

        Args:
            gap_id: Which one.
            at: Now.
            unknown: How many of its jobs the process before said to be unknown. If
                fewer are in flight, the outbox has forgotten the others by their age:
                nothing can tell of them any more.
            until_us: When it ended, microseconds since the epoch: what was heard of a
                job before says nothing of it, though it is known only now.

        Returns:
            Whether it is new. One that is in the books stays as it is.
        """
        if gap_id in self._gaps:
            return False
        self.latest += 1
        gap = _Settlement(self.latest, gap_id, at, until_us)
        self._gaps[gap_id] = gap
        gap.given_up = unknown
        return True

    def add(self, gap_id: str, client_id: str, jobs: Iterable[JobInFlight]) -> None:
        """
        Have a gap wait for jobs that it may have swallowed the end of.

        What is known of jobs that are in the books already must be entered before.

        Args:
            gap_id: Which one; it has begun and is not complete.
            client_id: Whose.
            jobs: Some of those in flight.
        """
        gap = self._gaps[gap_id]
        known = self._jobs.setdefault(client_id, {})
        waiting_before = len(self._waits)
        for job in jobs:
            key = (client_id, job.request_id)
            known[key] = job
            gap.waiting.add(key)
            self._waits[key] = self._waits.get(key, 0) + 1
            self._of.setdefault(key, []).append(gap)
            self._entries += 1
            gap.given_up = max(0, gap.given_up - 1)
        self._count_waiting(client_id, len(self._waits) - waiting_before)

    def complete(self, gap_id: str) -> None:
        """Settle a gap when none of its jobs waits any more, which may be at once."""
        gap = self._gaps[gap_id]
        gap.is_complete = True
        self._tell(gap)
        while self._entries > self._max_entries:
            self._give_up(next(iter(self._gaps.values())))

    def determined(
        self, keys: Iterable[Key], fate: Fate, up_to: int | None = None
    ) -> None:
        """
        Enter what is known of jobs, for all of their gaps.

        A gap that waits for none of its jobs any more is settled, and one that is
        settled is corrected.

        Args:
            keys: The jobs; those that are in no book are passed over.
            fate: What is known of all of them.
            up_to: It is known of gaps up to this number, as a job that ran when the
                second gap closed may have ended in the third one; None: of all.
        """
        number = self.latest if up_to is None else up_to
        self._determine(keys, fate, lambda gap: gap.number <= number)

    def _determine(
        self, keys: Iterable[Key], fate: Fate, concerns: Callable[[_Settlement], bool]
    ) -> None:
        touched: dict[_Settlement, None] = {}
        for key in keys:
            concerned = [gap for gap in self._of.get(key, ()) if concerns(gap)]
            if not concerned:
                continue
            waited = self.waits(key)
            for gap in concerned:
                self._enter(gap, key, fate)
            if waited and not self.waits(key):
                self._statistics.unknown[key[0]] += fate is Fate.UNKNOWN
            touched |= dict.fromkeys(concerned)
        for gap in touched:
            self._tell(gap)

    def look_up(
        self, found: Mapping[Key, JobInFlight | None], forgotten_us: float
    ) -> None:
        """
        Enter what the outbox's table tells.

        Args:
            found: Jobs as they are known now; None for one that isn't in flight.
            forgotten_us: What was not heard of since then, the outbox has forgotten.
        """
        fates: dict[Fate, list[Key]] = {fate: [] for fate in Fate}
        for key, now in found.items():
            before = self.job(key)
            if before is None:
                continue
            fate = _fate_of(before, now, forgotten_us)
            if now is not None and self._was_before(key, before, now):
                self._note_before(key, now)
            elif fate is not None:
                fates[fate].append(key)
        for fate, keys in fates.items():
            self.determined(keys, fate)
        self.give_up(fates[Fate.UNKNOWN])

    def _was_before(self, key: Key, before: JobInFlight, now: JobInFlight) -> bool:
        """
        Say whether news of a job were read before one of its gaps had ended.

        A disk that stood still writes after a gap what was read before it. News that
        are older than what was known are those of a clock that was set back.
        """
        heard_us = now.last_seen_us
        return before.last_seen_us < heard_us and any(
            heard_us < gap.until_us for gap in self._of[key]
        )

    def _note_before(self, key: Key, now: JobInFlight) -> None:
        """Enter news of a job, for those of its gaps that had ended by then."""
        heard_us = now.last_seen_us
        self._determine([key], Fate.GOES_ON, lambda gap: gap.until_us <= heard_us)
        self._jobs[key[0]][key] = now

    def give_up(self, keys: Iterable[Key]) -> None:
        """Let unknown jobs be unknown for good: nothing can tell of them any more."""
        for key in keys:
            for gap in list(self._of.get(key, ())):
                if key in gap.unknown:
                    gap.unknown.discard(key)
                    gap.given_up += 1
                    self._leave(gap, key)
                    self._tell(gap)

    def expire(self, before: float) -> None:
        """Let go, for good, of the gaps that closed before a moment."""
        for gap in [gap for gap in self._gaps.values() if gap.at < before]:
            self._give_up(gap)

    # -- Entries ---------------------------------------------------------------

    def _enter(self, gap: _Settlement, key: Key, fate: Fate) -> None:
        waited = self._wait_no_longer(gap, key)
        if fate is not Fate.UNKNOWN:
            gap.unknown.discard(key)
            self._leave(gap, key)
        elif waited:
            gap.unknown.add(key)

    def _wait_no_longer(self, gap: _Settlement, key: Key) -> bool:
        """Let a gap not wait for a job any more; say whether it did."""
        if key not in gap.waiting:
            return False
        gap.waiting.remove(key)
        self._waits[key] -= 1
        if not self._waits[key]:
            del self._waits[key]
            self._count_waiting(key[0], -1)
        return True

    def _leave(self, gap: _Settlement, key: Key) -> None:
        """Take a job out of the books of one gap."""
        self._entries -= 1
        gaps = self._of[key]
        gaps.remove(gap)
        if not gaps:
            del self._of[key]
            del self._jobs[key[0]][key]

    def _tell(self, gap: _Settlement) -> None:
        """Say how many jobs are unknown, unless some wait or that was said."""
        if gap.waiting or not gap.is_complete:
            return
        unknown = len(gap.unknown) + gap.given_up
        if not gap.unknown:
            # Nothing is left that could be corrected.
            self._gaps.pop(gap.gap_id, None)
        if unknown != gap.told:
            gap.told = unknown
            self._settle(gap.gap_id, unknown)

    def _give_up(self, gap: _Settlement) -> None:
        """Settle a gap for good, and forget it."""
        del self._gaps[gap.gap_id]
        for key in gap.waiting | gap.unknown:
            waited = self.waits(key)
            gap.given_up += 1
            self._wait_no_longer(gap, key)
            self._leave(gap, key)
            if waited and not self.waits(key):
                self._statistics.unknown[key[0]] += 1
        gap.unknown.clear()
        if gap.given_up != gap.told:
            gap.told = gap.given_up
            self._settle(gap.gap_id, gap.given_up, final=True)

    def _count_waiting(self, client_id: str, change: int) -> None:
        self._statistics.waiting[client_id, Purpose.GAP] += change


def _fate_of(
    before: JobInFlight, now: JobInFlight | None, forgotten_us: float
) -> Fate | None:
    """
    Say what the outbox's table tells of a job.

    Args:
        before: The job as it was.
        now: The same now; None if it is no longer in flight.
        forgotten_us: What was not heard of since then, the outbox has forgotten.

    Returns:
        Its fate; None if nothing is new.
    """
    if now is None:
        # Nothing tells the two apart, but that the outbox forgets by age.
        return Fate.UNKNOWN if before.last_seen_us <= forgotten_us else Fate.ENDED
    return None if now.last_seen_us == before.last_seen_us else Fate.GOES_ON
