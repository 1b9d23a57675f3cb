"""
What a session gives to each of its attempts, in one bundle.

Nothing is decided here; `session` makes the bundle, `attempt` uses it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bridge.pusher.authorizer import ChannelAuthorizer
from bridge.pusher.continuity import Continuity
from bridge.pusher.probe import Habit
from bridge.pusher.protocol import ChannelEvent
from bridge.pusher.refusal import Refusal
from bridge.pusher.stalls import Stalls
from bridge.pusher.statistics import Clock, Statistics
from bridge.pusher.websocket import Connect
from bridge.settings import PusherSettings


__all__ = ["Deliver", "Parts", "Pause"]

Deliver: TypeAlias = Callable[[Sequence[ChannelEvent], int], None]
"""
Takes a run's job events and when they were read (microseconds since the epoch).

It is called for each run of the socket, returns at once and doesn't raise.
"""

Pause: TypeAlias = Callable[[], Awaitable[None]]
"""
Awaited after each delivery, before more is read: slows down what comes too fast.

It returns at once as a rule, and within seconds always: while it lasts no
ping is answered, and what a server can't send it drops some time.
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """
    The parts of a session that its attempts share.

    Attributes:
        channel: The channel to subscribe.
        settings: Deadlines and limits.
        connect: Opens a WebSocket.
        authorizer: Signs the socket id.
        deliver: Takes job events.
        pause: Awaited after each delivery.
        has_jobs: Whether jobs are known to be in flight.
        statistics: What to count in.
        continuity: Where proofs are noted.
        refusal: Told of subscriptions.
        habit: What is known of the server's answers to probes.
        stalls: Tells when the process stood still.
        clock: The wall clock.
        jitter: Where chance comes from.
    """

    channel: str
    settings: PusherSettings
    connect: Connect
    authorizer: ChannelAuthorizer
    deliver: Deliver
    pause: Pause
    has_jobs: Callable[[], bool]
    statistics: Statistics
    continuity: Continuity
    refusal: Refusal
    habit: Habit
    stalls: Stalls
    clock: Clock
    jitter: random.Random
