"""
Who runs in `make bench`, in which kinds of runs, and how much each is given to do.

Owns the short names by which contenders are chosen, and how fast each about is, so
that a slow one doesn't take the time of all others: its floods are as long in
seconds, not in events. How they are started stands in `contenders` and `peers`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BRIDGE, FLOOR, TRANSACTIONAL, Contender
from benchmarks.peers.contenders import PYSHER, Benthos, NodePeer, PysherPeer
from benchmarks.traffic import Traffic


__all__ = ["LINE_UP", "PEERS", "Entry", "Plan", "chosen", "signing", "standing"]

# Kinds of runs: floods of small events, floods of previews, small events at a rate.
_SMALL, _PREVIEWS, _RATES = "small", "previews", "rates"

# A flood's previews: what the benchmark and the firehose keep of them in memory is
# four times as much.
_MOST_PREVIEW_BYTES = 150_000_000

# soketi takes some thousand events a second on two cores, and everybody else's work
# with them goes on beside.
_SOKETI_EVENTS = 20_000
_SOKETI_RATE = 1_000

# Amounts are round, and not too few for a percentile.
_ROUND = 100


@dataclass(frozen=True)
class Entry:
    """
    A contender in the line-up.

    Attributes:
        contender: It.
        us_per_event: What it about takes for a small event on two cores, in time.
        us_per_kilobyte: What it about takes for each kilobyte of a preview beside.
        kinds: In which kinds of runs it takes part.
        asked_for: Whether it runs only where it is named.
        signs: Whether it can subscribe at a Pusher server that demands a signature.
    """

    contender: Contender
    us_per_event: float
    us_per_kilobyte: float
    kinds: Collection[str] = (_SMALL, _PREVIEWS, _RATES)
    asked_for: bool = False
    signs: bool = True

    def takes(self, preview_bytes: int, rate: float | None) -> bool:
        """Tell whether it takes part in runs of this kind."""
        if rate is not None:
            # At more than its pace latency would be as long as the run.
            return _RATES in self.kinds and rate * self.us_per_event <= 1e6
        return (_PREVIEWS if preview_bytes else _SMALL) in self.kinds

    def events(self, preview_bytes: int, seconds: float) -> int:
        """
        Give how many events of a flood take it about so long.

        Args:
            preview_bytes: Length of each preview; 0 for none.
            seconds: How long.
        """
        us = self.us_per_event + self.us_per_kilobyte * preview_bytes / 1000
        return max(int(seconds * 1e6 / us) // _ROUND * _ROUND, _ROUND)


# The paces are those of two cores that nobody else uses; only the length of a run
# depends on them.
LINE_UP: dict[str, Entry] = {
    # Without a topic it has no latency, and no target is set by it for previews.
    "trio-websocket": Entry(FLOOR, 20, 2, kinds=(_SMALL,), signs=False),
    "bridge": Entry(BRIDGE, 25, 6),
    "bridge-transactional": Entry(TRANSACTIONAL, 25, 6, asked_for=True),
    "pysher": Entry(PysherPeer(PYSHER), 80, 180),
    # Of small events the check takes little.
    "pysher-unchecked": Entry(
        PysherPeer(f"{PYSHER}, UTF-8 unchecked", checked=False),
        80,
        2,
        kinds=(_PREVIEWS,),
    ),
    "kafkajs": Entry(
        NodePeer("pusher-js + KafkaJS, a send an event", "one_send_an_event.cjs"),
        400,
        20,
    ),
    "kafkajs-batched": Entry(
        NodePeer("pusher-js + KafkaJS, batched by hand", "batched_by_hand.cjs"), 30, 15
    ),
    "benthos": Entry(Benthos(), 25, 16, signs=False),
}

# Their flaws are told, and don't fail the benchmark. With each stands how many times
# its events/s the bridge is to bring, small events in a flood: the project's targets.
PEERS: dict[str, float | None] = {
    LINE_UP[name].contender.name: times
    for name, times in {
        "pysher": 5.0,
        "pysher-unchecked": None,
        "kafkajs": 20.0,
        "kafkajs-batched": 1.3,
        "benthos": 1.2,
    }.items()
}


def chosen(text: str | None) -> list[Entry]:
    """
    Give the contenders that are named, or those that run by default.

    Args:
        text: Short names with commas between them, `all`, or None.

    Raises:
        ValueError: There is no such contender.
    """
    if text is None:
        return [entry for entry in LINE_UP.values() if not entry.asked_for]
    if text == "all":
        return list(LINE_UP.values())
    names = text.split(",")
    for name in names:
        if name not in LINE_UP:
            raise ValueError(f"no contender {name!r}; there are {', '.join(LINE_UP)}")
    return [LINE_UP[name] for name in dict.fromkeys(names)]


def signing(entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, str]]:
    """
    Leave out who can't subscribe at a real soketi, and whom only previews concern.

    Returns:
        Those who can, and by name why others can't.
    """
    able = [entry for entry in entries if entry.signs and _RATES in entry.kinds]
    reason = "it can't sign for a private channel"
    return able, {entry.contender.name: reason for entry in entries if not entry.signs}


def standing(entries: Sequence[Entry]) -> tuple[list[Entry], dict[str, str]]:
    """
    Leave out who can't run here.

    Returns:
        Those who can, and by name what the others lack.
    """
    stand, skipped = [], {}
    for entry in entries:
        obstacle = entry.contender.obstacle()
        if obstacle is None:
            stand.append(entry)
        else:
            skipped[entry.contender.name] = obstacle
    return stand, skipped


@dataclass(frozen=True)
class Plan:
    """
    The runs of a benchmark.

    Attributes:
        turns: Runs of each contender and kind.
        previews: Lengths of previews, each with floods of its own; 0 for none.
        rates: Events a second at which latency is measured.
        rate_seconds: How long a rate is kept up.
        flood_seconds: How long a flood about takes.
        events: Of each flood; None for as many as take its contender so long.
        soketi: Whether who can also runs once against a real soketi.
    """

    turns: int
    previews: Sequence[int]
    rates: Sequence[int]
    rate_seconds: int
    flood_seconds: float
    events: int | None = None
    soketi: bool = False

    def soketi_runs(
        self, entries: Sequence[Entry]
    ) -> Iterator[tuple[Contender, Traffic, float | None]]:
        """Give the runs against a real soketi, in their order."""
        if not self.soketi:
            return
        able, _ = signing(entries)
        for entry in able:
            yield entry.contender, Traffic(_SOKETI_EVENTS), None
        for entry in able:
            if entry.takes(0, _SOKETI_RATE):
                events = _SOKETI_RATE * self.rate_seconds
                yield entry.contender, Traffic(events), _SOKETI_RATE

    def runs(
        self, entries: Sequence[Entry]
    ) -> Iterator[tuple[Contender, Traffic, float | None]]:
        """Give all runs in their order: turn by turn, kind by kind."""
        kinds: list[tuple[int, float | None]] = [
            *((preview_bytes, None) for preview_bytes in self.previews),
            *((0, rate) for rate in self.rates),
        ]
        for turn in range(self.turns):
            for preview_bytes, rate in kinds:
                # Each goes first in its turn: the machine drifts.
                for place in range(len(entries)):
                    entry = entries[(turn + place) % len(entries)]
                    if entry.takes(preview_bytes, rate):
                        traffic = self._traffic(entry, preview_bytes, rate)
                        yield entry.contender, traffic, rate

    def _traffic(self, entry: Entry, preview_bytes: int, rate: float | None) -> Traffic:
        if rate is not None:
            return Traffic(int(rate * self.rate_seconds))
        events = self.events or entry.events(preview_bytes, self.flood_seconds)
        if preview_bytes:
            events = min(events, _MOST_PREVIEW_BYTES // preview_bytes)
        return Traffic(events, preview_bytes=preview_bytes)
