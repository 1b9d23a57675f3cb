"""
What reconciliation needs of the other rooms, and what an account brings to it.

The service introduces them: this room imports none of those that keep jobs, write
records or know gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from bridge.events.record import Origin, Record
from bridge.outbox.values import Healing, JobInFlight
from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Answer
from bridge.reconciliation.limits import Limits


__all__ = [
    "AskedAccount",
    "Calls",
    "ClosedGap",
    "Gaps",
    "Heal",
    "Jobs",
    "Make",
    "Rooms",
    "Settle",
    "StatusEndpoint",
]


class Jobs(Protocol):
    """The jobs whose end has not been seen; any thread may ask."""

    def of(self, ce_source: str) -> list[JobInFlight]:
        """Give all of an account; with many jobs it takes milliseconds."""

    def find(self, ce_source: str, request_id: str) -> JobInFlight | None:
        """Give one; None if it has ended, or was never heard of."""


class Heal(Protocol):
    """Who writes what dryAPI says of a job, unless the socket was faster."""

    def heal(self, healing: Healing) -> Future[bool]:
        """
        Write it, if nothing was heard of the job since it was looked up.

        Returns:
            Whether it was written; False where it was not needed.
        """


class ClosedGap(Protocol):
    """A gap that is over."""

    @property
    def gap_id(self) -> str:
        """Which one."""

    @property
    def client_id(self) -> str:
        """Whose."""

    @property
    def until_us(self) -> int | None:
        """What is sent from then on arrives, microseconds since the epoch."""

    @property
    def unknown(self) -> int | None:
        """How many of its jobs the process before called unknown; None of a new one."""


class Settle(Protocol):
    """Who writes down how a gap ended."""

    def __call__(self, gap_id: str, unknown: int, *, final: bool = False) -> None:
        """
        Write down what became of a gap's jobs.

        Args:
            gap_id: Which gap.
            unknown: How many of its jobs nobody knows of.
            final: It will not be told again.
        """


class Gaps(Protocol):
    """The ledger of gaps; any thread may call."""

    def healable(
        self, client_id: str, last_seen_us: int | None, ended_us: int | None
    ) -> tuple[str, ...]:
        """
        Give the gaps of which a job's end is healed.

        Args:
            client_id: Whose job.
            last_seen_us: When it was heard of last; None if it never was.
            ended_us: When it ended; None if that isn't known.
        """

    def healed(self, gap_ids: Sequence[str], origin: Origin) -> None:
        """Count a job's end that was written, for each of its gaps."""

    def settle(self, gap_id: str, unknown: int, *, final: bool = False) -> None:
        """Do as `Settle` says."""

    def expire(self) -> None:
        """Forget gaps of which no more will be learned."""


class Make(Protocol):
    """Who makes a record of an event that the socket didn't bring."""

    def __call__(self, event: bytes, received_at_us: int, /) -> Record:
        """
        Make it; a dead letter of what does not conform.

        Args:
            event: JSON, in the form of the socket's events.
            received_at_us: When it was read, microseconds since the epoch.
        """


class StatusEndpoint(Protocol):
    """Who asks dryAPI about one job."""

    async def ask(self, request_id: str) -> Answer:
        """Ask once; whatever goes wrong is an answer, too."""


class Calls(Protocol):
    """How many calls a token has left: a `Budget`."""

    async def acquire(self, purpose: Purpose) -> bool:
        """Wait until a call may be made; False: none can be on this day."""

    def learn(self, limits: Limits, *, failed: bool) -> None:
        """End a call with what its answer said."""

    def abandon(self, *, was_made: bool = True) -> None:
        """End a call of which there is no answer, or that was not made."""


@dataclass(frozen=True, slots=True)
class AskedAccount:
    """
    An account about whose jobs dryAPI is asked.

    Attributes:
        client_id: Whose jobs.
        ce_source: The same for the outbox.
        make: Makes the records of its answers.
        budget: The calls of its token: one object for all accounts that share it.
        client: Asks, with its token.
    """

    client_id: str
    ce_source: str
    make: Make
    budget: Calls
    client: StatusEndpoint


@dataclass(frozen=True, slots=True)
class Rooms:
    """
    The other rooms.

    Attributes:
        jobs: Which jobs are in flight.
        outbox: Where records go.
        gaps: Where gaps stand.
    """

    jobs: Jobs
    outbox: Heal
    gaps: Gaps
