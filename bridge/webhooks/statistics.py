"""
What is counted of webhooks, as plain numbers.

`receiver` and `holding` write, operations reads; all run on the same thread. Names of
metrics, and ages, are made by whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from bridge.webhooks.delivery import Event, Webhook
from bridge.webhooks.signature import Fault


__all__ = ["OUTCOMES", "Outcome", "Release", "WebhookStatistics"]


class Outcome(StrEnum):
    """What a request was answered with, whatever its signature: a metric's label."""

    TAKEN = "taken"
    """It stands on disk."""

    KNOWN = "known"
    """It stood there before: dryAPI has sent it again."""

    VALIDATION = "validation"
    """The dashboard's test."""

    OTHER_EVENT = "other_event"
    """It is genuine, and of an event that nothing is known of."""

    UNAVAILABLE = "unavailable"
    """It could not be written in time: dryAPI is to send it again."""

    TOO_LARGE = "too_large"
    """Its body is larger than `webhook.max_body_bytes`."""

    TOO_SLOW = "too_slow"
    """Its body did not come in time."""

    BROKEN_OFF = "broken_off"
    """Its body ended before its end."""


OUTCOMES: Final[tuple[Outcome | Fault, ...]] = (*Outcome, *Fault)
"""All of them: those of a request that isn't genuine are its faults."""


class Release(StrEnum):
    """What became of a webhook that was held: a metric's label."""

    WRITTEN = "written"
    SUPERSEDED = "superseded"
    """The job's own event was there first."""


class WebhookStatistics:
    """
    Counts since the start.

    Args:
        accounts: The client ids whose webhooks are taken: each has its zeros.

    Attributes:
        deliveries: Requests that were answered, by client id and outcome.
        events: Genuine webhooks, each counted once, by client id and what they tell.
        strangers: Requests for an account that there isn't, or without a secret.
        last_terminal_at_us: When the last webhook came that tells of a job's end, by
            client id, microseconds since the epoch; None if none has come yet.
        released: Webhooks that were held, by what became of them.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.deliveries: dict[tuple[str, Outcome | Fault], int] = {
            (who, outcome): 0 for who in accounts for outcome in OUTCOMES
        }
        self.events: dict[tuple[str, Event], int] = {
            (who, event): 0 for who in accounts for event in Event
        }
        self.strangers = 0
        self.last_terminal_at_us: dict[str, int | None] = dict.fromkeys(accounts)
        self.released: dict[Release, int] = dict.fromkeys(Release, 0)

    def answered(
        self, client_id: str, outcome: Outcome | Fault, webhook: Webhook | None
    ) -> None:
        """
        Count a request.

        Args:
            client_id: Whose.
            outcome: What it is answered with.
            webhook: What it says; None if it isn't genuine, or wasn't read.
        """
        self.deliveries[client_id, outcome] += 1
        if webhook is not None and outcome not in {Outcome.KNOWN, Outcome.UNAVAILABLE}:
            self.events[client_id, webhook.event] += 1
