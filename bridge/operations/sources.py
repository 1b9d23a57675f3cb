"""
What metrics and health read: the shapes of the other rooms' statistics.

Each room counts in plain attributes of an object that it owns; counting costs
it an addition. These protocols say which attributes are read, in which unit.
They are read while other threads write: numbers are read once, mappings and
lists are copied before they are looked at. Nothing here counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.errors import DeadLetterReason
from bridge.kafka.relay.statistics import RelayStatistics
from bridge.operations.healing_sources import HealingSources
from bridge.outbox.statistics import OutboxStatistics


__all__ = [
    "VERDICTS",
    "GapStatistics",
    "Histogram",
    "IntakeStatistics",
    "LoopStatistics",
    "OutboxStatistics",
    "RelayStatistics",
    "SessionStatistics",
    "Sources",
    "TopicFinding",
]

# What a finding about a topic may mean: the words of `kafka.topic_finding`.
VERDICTS = ("fine", "dangerous", "missing", "unknown")


class Histogram(Protocol):
    """A distribution, counted by the room that measures it."""

    @property
    def bounds(self) -> Sequence[float]:
        """Upper bounds of the buckets, ascending; the last bucket has none."""

    @property
    def counts(self) -> Sequence[int]:
        """How many values fell into each bucket alone; one more than bounds."""

    @property
    def sum(self) -> float:
        """All values added up."""


class SessionStatistics(Protocol):
    """What one account's Pusher session counts; owned by `pusher`."""

    @property
    def client_id(self) -> str:
        """Whose session it is."""

    @property
    def state(self) -> str:
        """The session's state by its name, for people."""

    @property
    def subscribed(self) -> bool:
        """Whether the channel's subscription is acknowledged and stands."""

    @property
    def frames(self) -> int:
        """Text messages read from the socket, of any kind."""

    @property
    def events(self) -> int:
        """Job-status events handed on."""

    @property
    def other_events(self) -> int:
        """Events of another name or channel, passed over."""

    @property
    def unrecognized(self) -> int:
        """Text messages that no reading made sense of."""

    @property
    def connects(self) -> Mapping[Any, int]:
        """Attempts to connect and subscribe, by outcome (a text)."""

    @property
    def probes(self) -> Mapping[Any, int]:
        """Repeated subscriptions, by outcome (a text)."""

    @property
    def last_frame_at_us(self) -> int | None:
        """When a frame was read last, microseconds since the epoch."""

    @property
    def last_close_code(self) -> int | None:
        """The code with which the last connection ended, if it had one."""

    @property
    def refused_reason(self) -> str | None:
        """Why dryAPI refuses the account, a sentence; None while it doesn't."""


class IntakeStatistics(Protocol):
    """What became of one account's events; owned by `intake`."""

    @property
    def origin(self) -> str:
        """How the bridge learned of them, a word of `bridge_origin`."""

    @property
    def accepted(self) -> int:
        """Events that became a record on `jobs`."""

    @property
    def dead_letters(self) -> Mapping[DeadLetterReason, int]:
        """Events that became a dead letter, by reason."""

    @property
    def normalized(self) -> Mapping[Any, int]:
        """Changes made to events and previews, by kind (a text)."""

    @property
    def previews(self) -> int:
        """Previews that became a record of their own."""

    @property
    def preview_dead_letters(self) -> Mapping[DeadLetterReason, int]:
        """Previews that became a dead letter alone, by reason."""


class TopicFinding(Protocol):
    """One thing that was looked at of a topic; owned by `kafka`."""

    @property
    def what(self) -> str:
        """What was looked at: a topic configuration, for one."""

    @property
    def found(self) -> str:
        """What Kafka has."""

    @property
    def needed(self) -> str:
        """What the bridge needs."""

    @property
    def verdict(self) -> str:
        """What that means: one of `VERDICTS`."""

    @property
    def remedy(self) -> str:
        """What to do about it, in sentences; empty where there is nothing."""


class GapStatistics(Protocol):
    """The gaps of all accounts; owned by `recovery`."""

    @property
    def gaps(self) -> Mapping[tuple[str, str], int]:
        """Gaps that opened, by client id and cause."""

    @property
    def open(self) -> Mapping[str, int]:
        """Gaps that are open now, by client id."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of the gaps that have closed, by client id."""

    @property
    def settled(self) -> Mapping[str, int]:
        """Gaps of which it was found out what became of their jobs, by client id."""

    @property
    def healed(self) -> Mapping[tuple[str, str], int]:
        """Jobs whose end was learned after a gap, by client id and origin."""

    @property
    def unknown(self) -> Mapping[str, int]:
        """Jobs of gaps of which nobody can tell now, by client id."""


class LoopStatistics(Protocol):
    """How promptly the trio loop runs; `heartbeat` measures it."""

    @property
    def lag_seconds(self) -> float:
        """The longest delay of a beat during the last minute."""

    @property
    def tasks(self) -> int:
        """How many tasks lived at the latest beat."""

    @property
    def last_beat(self) -> float | None:
        """`time.monotonic()` of the loop's latest beat."""


@dataclass(frozen=True, slots=True)
class Sources:
    """
    Everything that metrics and health read.

    Attributes:
        sessions: One for each account; may grow and shrink while it is read.
        intakes: Between sessions and outbox; likewise one for each account.
        outbox: What is not yet safely in Kafka.
        relay: What is.
        gaps: What may have been missed.
        loop: The trio loop of this process.
        healing: What was asked and taken beside the socket.
    """

    sessions: Sequence[SessionStatistics]
    intakes: Sequence[IntakeStatistics]
    outbox: OutboxStatistics
    relay: RelayStatistics
    gaps: GapStatistics
    loop: LoopStatistics
    healing: HealingSources
