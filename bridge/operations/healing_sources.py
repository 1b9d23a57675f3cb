"""What metrics and health read of what heals gaps: their shapes, as in `sources`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


__all__ = [
    "BudgetStatistics",
    "HealingSources",
    "ReconciliationStatistics",
    "WebhookStatistics",
]


class ReconciliationStatistics(Protocol):
    """What was asked of the status endpoint; owned by `reconciliation`."""

    @property
    def requests(self) -> Mapping[tuple[str, Any], int]:
        """Requests that have ended, by client id and outcome (a text)."""

    @property
    def healed(self) -> Mapping[str, int]:
        """Jobs whose end was written because it was told, by client id."""

    @property
    def superseded(self) -> Mapping[str, int]:
        """Answers that were not needed, by client id."""

    @property
    def unknown(self) -> Mapping[str, int]:
        """Jobs of gaps that were given up as unknown, by client id."""

    @property
    def waiting(self) -> Mapping[tuple[str, Any], int]:
        """Jobs that wait to be asked about, by client id and purpose (a text)."""


class BudgetStatistics(Protocol):
    """What may still be asked with one token; owned by `reconciliation`."""

    @property
    def remaining_minute(self) -> int | None:
        """How many calls the bridge may still make in this minute."""

    @property
    def remaining_day(self) -> int | None:
        """How many it may still make on this day; None without a limit."""

    @property
    def is_backing_off(self) -> bool:
        """Whether the endpoint has failed, and hasn't answered since."""


class WebhookStatistics(Protocol):
    """What came of webhooks; owned by `webhooks`."""

    @property
    def deliveries(self) -> Mapping[tuple[str, Any], int]:
        """Requests that were answered, by client id and outcome (a text)."""

    @property
    def events(self) -> Mapping[tuple[str, Any], int]:
        """Genuine webhooks, by client id and what they tell (a text)."""

    @property
    def strangers(self) -> int:
        """Requests for an account that there isn't, or without a secret."""

    @property
    def last_terminal_at_us(self) -> Mapping[str, int | None]:
        """When the last one came that tells of a job's end, by client id."""

    @property
    def released(self) -> Mapping[Any, int]:
        """Webhooks that were held, by what became of them (a text)."""


@dataclass(frozen=True, slots=True)
class HealingSources:
    """
    Everything that metrics and health read of healing.

    Attributes:
        reconciliation: What was asked.
        budgets: What may still be asked, by client id; none where asking is off.
        webhooks: What was taken; None where none are.
        finished: How many jobs of a client id have ended since the start, however that
            was learned.
        client_ids: The accounts there are.
    """

    reconciliation: ReconciliationStatistics
    budgets: Mapping[str, BudgetStatistics]
    webhooks: WebhookStatistics | None
    finished: Callable[[str], int]
    client_ids: tuple[str, ...]
