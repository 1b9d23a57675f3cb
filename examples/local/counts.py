"""
What a run has counted, and whether the counts agree.

Pure: numbers in, sentences and a table out. Where numbers come from is `run`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import ceil

import msgspec
from rich.table import Table

from bridge.kafka.reader import ConsumedRecord
from examples.local.processes import BridgeNumbers


__all__ = ["Consumed", "Totals", "percentile", "summary_table"]

# Enough for p50 and p99 of the summary: an hour at 100 events/s, 3 MB.
_MAX_DELAYS = 360_000
# For the live figures: cheap to sort eight times a second.
_RECENT_DELAYS = 1_000


class _Stamped(msgspec.Struct):
    """The member that the sandbox adds on request."""

    sandbox_emitted_at: str | None = None


_decode = msgspec.json.Decoder(_Stamped).decode


class Consumed:
    """Counts the records of a topic as they are read, and their delays."""

    def __init__(self) -> None:
        self.count = 0
        self.delays: deque[float] = deque(maxlen=_MAX_DELAYS)

    def observe(self, records: Iterable[ConsumedRecord], now_seconds: float) -> None:
        """Count records that have just been read; the time is since the epoch."""
        for record in records:
            self.count += 1
            emitted_at = _decode(record.value or b"{}").sandbox_emitted_at
            if emitted_at is not None:
                moment = datetime.fromisoformat(emitted_at).timestamp()
                self.delays.append(now_seconds - moment)

    def recent(self) -> list[float]:
        """Give the latest thousand delays in seconds, ascending."""
        return sorted(islice(reversed(self.delays), _RECENT_DELAYS))


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Take a percentile of at least one value, by nearest rank."""
    return ascending[max(0, ceil(len(ascending) * percent / 100) - 1)]


@dataclass(frozen=True)
class Totals:
    """
    What a run has counted at its end.

    Attributes:
        emitted: Events that the sandbox emitted.
        bridge: The bridge's own counts.
        on_topic: Records on the topic, read by another client.
        distinct: Different `ce_id`s among them.
        letters: Records on the dead-letter topic.
        consumed: Records that the live view read.
    """

    emitted: int
    bridge: BridgeNumbers
    on_topic: int
    distinct: int
    letters: int
    consumed: int

    @property
    def missed(self) -> int:
        """How many events were emitted and not read, as in a gap."""
        return max(0, self.emitted - self.bridge.read)

    def differences(self) -> list[str]:
        """Say what doesn't agree; empty when every event is accounted for."""
        read, healed, gaps = self.bridge.read, self.bridge.healed, self.bridge.gaps
        called, waiting = self.bridge.dead_letters, self.bridge.waiting
        checks = [
            (self.emitted == 0, "the sandbox emitted nothing"),
            (
                read > self.emitted or (self.missed > 0 and not gaps),
                f"the bridge read {read:,} of {self.emitted:,} events emitted",
            ),
            (
                self.on_topic + self.letters != read + healed,
                (
                    f"{self.on_topic:,} records and {self.letters:,} dead letters came"
                    f" of {read:,} events read and {healed:,} healed"
                ),
            ),
            (
                self.distinct != self.on_topic,
                f"{self.on_topic - self.distinct:,} records are duplicates",
            ),
            (
                self.consumed != self.on_topic,
                f"the live view read {self.consumed:,} of {self.on_topic:,} records",
            ),
            (
                called != self.letters,
                f"the bridge counted {called:,} of {self.letters:,} dead letters",
            ),
            (waiting > 0, f"{waiting:,} records still wait in the outbox"),
        ]
        return [sentence for differs, sentence in checks if differs]


def summary_table(totals: Totals, delays_seconds: Iterable[float]) -> Table:
    """Lay the counts out for people, with the delays from emission to consumption."""
    table = Table(title="Summary", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = {
        "emitted by the sandbox": totals.emitted,
        "read by the bridge": totals.bridge.read,
        "from status endpoint, webhooks": totals.bridge.healed,
        "on the topic": totals.on_topic,
        "dead letters": totals.letters,
        "consumed by the live view": totals.consumed,
    }
    if totals.bridge.gaps:
        rows[f"missed, with gaps: {totals.bridge.gaps:,}"] = totals.missed
    for name, count in rows.items():
        table.add_row(name, f"{count:,}")
    ascending = sorted(delays_seconds)
    for percent in (50, 99):
        shown = f"{1000 * percentile(ascending, percent):.1f} ms" if ascending else "-"
        table.add_row(f"p{percent} from emission to consumption", shown)
    return table
