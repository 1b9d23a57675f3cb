"""
What a session tells of its hearing: that it hears, and what it may have missed.

These are values and the door that they go through. When they are told is decided in
`session`, what becomes of them is not known here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec


__all__ = ["Cause", "Interruption", "Listener", "Nobody"]


class Cause(StrEnum):
    """Why events may have been missed: words of the gap ledger's vocabulary."""

    DISCONNECTED = "disconnected"
    """The connection was lost."""

    DEAF = "deaf"
    """The connection stood, but nothing came through it."""

    REFUSED = "refused"
    """DryAPI refused the account while it was subscribed."""

    SUSPENDED = "suspended"
    """The process stood still so long that something was lost by it."""


class Interruption(msgspec.Struct, frozen=True):
    """
    An interval in which events may have been missed; microseconds since the epoch.

    Attributes:
        cause: Why.
        since_us: What was sent before this moment had arrived.
        until_us: What is sent from then on arrives; None if the next
            `Listener.subscribed` is to tell.
        close_code: What ended the connection, if a code did.
    """

    cause: Cause
    since_us: int
    until_us: int | None = None
    close_code: int | None = None


class Listener(Protocol):
    """Who is told; every method returns at once and doesn't raise."""

    def subscribed(self, at_us: int) -> None:
        """
        Hear that a subscription was acknowledged: what is sent from now on arrives.

        Args:
            at_us: When the acknowledgement was read.
        """

    def interrupted(self, interruption: Interruption) -> None:
        """
        Hear that something may have been missed.

        It comes only after a `subscribed`, and an interruption without an end is
        followed by a `subscribed` before the next one.

        Args:
            interruption: Since when, and why.
        """


class Nobody:
    """A listener for those who don't care."""

    def subscribed(self, at_us: int) -> None:
        """Do nothing."""

    def interrupted(self, interruption: Interruption) -> None:
        """Do nothing."""
