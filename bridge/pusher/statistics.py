"""
What a session counts and remembers, as plain numbers.

The session writes, operations reads; both run on the same thread, so nothing
is locked. Rates, ages and names of metrics are made by whoever reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from bridge.pusher.proofs import Proofs
from bridge.pusher.state import State


__all__ = ["Clock", "Outcome", "ProbeOutcome", "Probing", "Statistics"]

Clock: TypeAlias = Callable[[], int]
"""The wall clock: microseconds since the epoch."""


class Outcome(StrEnum):
    """How far an attempt to connect came before it ended: a metric's label."""

    SUBSCRIBED = "subscribed"
    UNREACHABLE = "unreachable"
    NOT_ESTABLISHED = "not_established"
    NOT_AUTHORIZED = "not_authorized"
    NOT_SUBSCRIBED = "not_subscribed"


class Probing(StrEnum):
    """Whether subscriptions are probed: depends on what the server does."""

    UNKNOWN = "unknown"
    """It is not known yet whether the server acknowledges a repeated one."""

    ON = "on"
    """The server does."""

    OFF = "off"
    """The server doesn't; only pings watch the connection."""


class ProbeOutcome(StrEnum):
    """What came of a repeated subscription: a metric's label."""

    ACKNOWLEDGED = "acknowledged"
    HEARD = "heard"
    """No acknowledgement, but events of the channel, in the time for it."""
    UNANSWERED = "unanswered"


class Statistics:
    """
    One session's numbers.

    Monotonic times are trio's clock in seconds; times that end in `_us` are
    microseconds since the epoch. None means "not yet".

    Attributes:
        client_id: The account.
        state: Where the connection stands.
        frames: Messages received, of every kind.
        events: Job events handed on.
        other_events: Events of another name or channel, dropped.
        unrecognised: Frames that no reading made sense of.
        unexpected: Control events that came when they could mean nothing.
        server_errors: `pusher:error` events.
        connects: Attempts by outcome; `subscribed` is counted when it begins.
        authorization_failures: Answers of the auth endpoint without signature.
        probing: Whether subscriptions are probed.
        probes: Repeated subscriptions by outcome.
        refused_reason: Why dryAPI refuses the account, since it was subscribed
            last; a sentence without secrets, None while it doesn't.
        proofs: What proves that everything was heard.
        reconnects: Subscriptions after the first.
        last_frame_at: Receipt of the last message, monotonic.
        last_frame_at_us: The same on the wall clock.
        last_event_at: Receipt of the last job event, monotonic.
        last_event_at_us: The same on the wall clock.
        last_subscribed_at: The last subscription's acknowledgement, monotonic.
        last_subscribed_at_us: The same on the wall clock.
        last_ended_at_us: When the last connection ended.
        last_close_code: Its code, if it had one.
    """

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.state = State.DISCONNECTED
        self.frames = 0
        self.events = 0
        self.other_events = 0
        self.unrecognised = 0
        self.unexpected = 0
        self.server_errors = 0
        self.connects: Counter[Outcome] = Counter()
        self.authorization_failures = 0
        self.probing = Probing.UNKNOWN
        self.probes: Counter[ProbeOutcome] = Counter()
        self.refused_reason: str | None = None
        self.proofs = Proofs()
        self.last_frame_at: float | None = None
        self.last_frame_at_us: int | None = None
        self.last_event_at: float | None = None
        self.last_event_at_us: int | None = None
        self.last_subscribed_at: float | None = None
        self.last_subscribed_at_us: int | None = None
        self.last_ended_at_us: int | None = None
        self.last_close_code: int | None = None

    @property
    def proved_us(self) -> int | None:
        """Up to when everything sent had arrived; None before the first time."""
        return self.proofs.proved_us

    @property
    def subscribed(self) -> bool:
        """Whether events can arrive at this moment."""
        return self.state is State.SUBSCRIBED

    @property
    def reconnects(self) -> int:
        """How often a subscription followed an earlier one."""
        return max(0, self.connects[Outcome.SUBSCRIBED] - 1)
