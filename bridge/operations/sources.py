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
from bridge.operations.healing_sources import HealingSources
from bridge.operations.tallied import Tallies


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


class OutboxStatistics(Protocol):
    """What the outbox holds and has seen; owned by `outbox`."""

    @property
    def rows(self) -> int:
        """Committed records that Kafka has not acknowledged."""

    @property
    def bytes(self) -> int:
        """Size of database and write-ahead log on disk."""

    @property
    def oldest_received_at_us(self) -> int | None:
        """When the oldest of those rows was received; None without rows."""

    @property
    def accepted(self) -> int:
        """Records taken into the buffer."""

    @property
    def committed(self) -> int:
        """Records of those that reached the database."""

    @property
    def rows_at_start(self) -> int:
        """Rows that waited when this process opened the file."""

    @property
    def held(self) -> int:
        """Webhooks that are held for the socket's own event."""

    @property
    def held_at_start(self) -> int:
        """Webhooks that were held when this process opened the file."""

    @property
    def acknowledged(self) -> int:
        """Rows that Kafka acknowledged, or that were found there."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Records given up by a named policy, by cause."""

    @property
    def dropped_previews(self) -> int:
        """Records that lost their preview, and nothing else, for want of room."""

    @property
    def dropped_pictures(self) -> int:
        """Records of previews alone that were given up for want of room."""

    @property
    def anomalies(self) -> Mapping[str, int]:
        """Records that were marked for the state of their job, by word."""

    @property
    def late(self) -> int:
        """Dead letters of events that came after their job's last one."""

    @property
    def ended_jobs(self) -> int:
        """Jobs of which it is known just now that they have ended."""

    @property
    def forgotten_jobs(self) -> int:
        """Unfinished jobs that were too many or too old to be remembered."""

    @property
    def forgotten_ends(self) -> int:
        """Ended jobs that were too many to be remembered as long as is set."""

    @property
    def quarantined(self) -> int:
        """Records put aside: neither their topic nor the dead letters take them."""

    @property
    def full(self) -> bool:
        """Whether the disk or the limit refuses rows: nothing is committed."""

    @property
    def tallies(self) -> Tallies:
        """What became of records, so that it adds up."""

    @property
    def last_beat(self) -> float | None:
        """
        `time.monotonic()` of the SQLite thread's latest beat.

        It beats every few seconds, idle or not. None or 0: it was not started
        yet, or has ended as it should.
        """


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


class RelayStatistics(Protocol):
    """What has gone to Kafka; owned by `kafka`."""

    @property
    def published(self) -> Mapping[str, int]:
        """Records that Kafka acknowledged, by topic."""

    @property
    def resumed(self) -> Mapping[str, int]:
        """Records found in the log on resume, by topic; not in `published`."""

    @property
    def refused(self) -> Mapping[str, int]:
        """Records that the broker refused for good, by topic."""

    @property
    def dead_letters(self) -> int:
        """How many of those became a dead letter."""

    @property
    def resent(self) -> Mapping[str, int]:
        """Records sent again because a log had lost them, by topic."""

    @property
    def producer_recycles(self) -> int:
        """Producers given up after a failure and made anew."""

    @property
    def publish_duration(self) -> Histogram:
        """Seconds from a batch's hand-over to the producer to its acknowledgement."""

    @property
    def delivery_durations(self) -> Mapping[str, Histogram]:
        """Seconds from a record's reading to its acknowledgement, by topic."""

    @property
    def topic_findings(self) -> Mapping[str, Sequence[TopicFinding]]:
        """What each topic was found to be like last; replaced as a whole."""

    @property
    def connected(self) -> bool:
        """Whether Kafka answers now."""

    @property
    def ever_connected(self) -> bool:
        """Whether Kafka has answered since the process started."""

    @property
    def last_error(self) -> str | None:
        """Why Kafka does not answer, or refuses; None when all is well."""

    @property
    def lanes(self) -> int:
        """Lanes that are open."""

    @property
    def last_beat(self) -> float | None:
        """`time.monotonic()` of the Kafka thread's latest beat, as in the outbox."""

    @property
    def lag_seconds(self) -> float:
        """The longest delay of a beat of its loop during the last minute."""


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
