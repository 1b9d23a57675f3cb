"""
Whether a run's counts agree, and the table that says so.

Pure: numbers in, sentences out. How they are found stands in `endpoints`, `ledger`
and `topics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.local_run.ledger import percentile


__all__ = ["Totals", "summary_table"]


@dataclass(frozen=True)
class Totals:
    """
    What each part of the run counted at its end.

    Attributes:
        emitted: Events that the sandbox emitted.
        read: Events that the bridge read.
        healed: Records that the socket didn't bring: of jobs that failed, mostly.
        gaps: Times in which nobody was subscribed, made on command.
        on_topic: Records on the topic, counted by another client.
        distinct: Different `ce_id`s among them.
        consumed: Records that the live view read.
        dead_letters: Events that the bridge called dead letters.
        on_dead_letter_topic: Records on the dead-letter topic.
        waiting: Records that still stood in the outbox.
    """

    emitted: int
    read: int
    healed: int
    gaps: int
    on_topic: int
    distinct: int
    consumed: int
    dead_letters: int
    on_dead_letter_topic: int
    waiting: int

    @property
    def missed(self) -> int:
        """How many events were emitted and not read; in a gap nobody hears them."""
        return max(0, self.emitted - self.read)

    def differences(self) -> list[str]:
        """Say what doesn't agree; empty when every event is accounted for."""
        found = []
        if self.emitted == 0:
            found.append("the sandbox emitted nothing")
        if self.read > self.emitted or (self.missed and not self.gaps):
            found.append(
                f"the bridge read {self.read:,} of {self.emitted:,} events emitted"
            )
        if self.on_topic + self.on_dead_letter_topic != self.read + self.healed:
            found.append(
                f"of {self.read:,} events read and {self.healed:,} healed "
                f"{self.on_topic:,} are on the topic and "
                f"{self.on_dead_letter_topic:,} among the dead letters"
            )
        if self.distinct != self.on_topic:
            found.append(f"{self.on_topic - self.distinct:,} records are duplicates")
        if self.consumed != self.on_topic:
            found.append(
                f"the live view read {self.consumed:,} of {self.on_topic:,} records"
            )
        if self.dead_letters != self.on_dead_letter_topic:
            found.append(
                f"the bridge counted {self.dead_letters:,} dead letters, "
                f"{self.on_dead_letter_topic:,} are on their topic"
            )
        if self.waiting:
            found.append(f"{self.waiting:,} records still wait in the outbox")
        return found


def summary_table(totals: Totals, delays_seconds: Sequence[float]) -> Table:
    """
    Lay the numbers out for people.

    Args:
        totals: The counts.
        delays_seconds: From emission to consumption, of each event.
    """
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "emitted by the sandbox": totals.emitted,
        "read by the bridge": totals.read,
        "told on another way": totals.healed,
        "on the topic": totals.on_topic,
        "dead letters": totals.on_dead_letter_topic,
        "consumed by the live view": totals.consumed,
    }
    if totals.gaps:
        rows[f"missed, with gaps: {totals.gaps:,}"] = totals.missed
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    ascending = sorted(delays_seconds)
    for percent in (50, 99):
        shown = "-"
        if ascending:
            shown = f"{1000 * percentile(ascending, percent):.1f} ms"
        table.add_row(f"p{percent} from emission to consumption", shown)
    return table
