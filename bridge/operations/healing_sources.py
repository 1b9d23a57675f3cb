"""What metrics and health read of what heals gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.gaps.limiter import Limiter
from bridge.gaps.receiver import WebhookStatistics
from bridge.gaps.reconciler import ReconciliationStatistics


__all__ = ["HealingSources"]


@dataclass(frozen=True, slots=True)
class HealingSources:
    """
    Everything that metrics and health read of healing.

    Attributes:
        reconciliation: What was asked.
        limiters: What may still be asked, by client id; none where asking is off.
        webhooks: What was taken; None where none are.
        now: The clock of their limiters; any thread may ask.
        released: What became of those that were held.
        finished: How many jobs of a client id have ended since the start, however that
            was learned.
        client_ids: The accounts there are.
    """

    reconciliation: ReconciliationStatistics
    limiters: Mapping[str, Limiter]
    now: Callable[[], float]
    webhooks: WebhookStatistics | None
    released: Mapping[str, int]
    finished: Callable[[str], int]
    client_ids: tuple[str, ...]
