"""
What was asked of the status endpoint and what came of it, as plain numbers.

The reconciler writes, operations reads. Names of metrics are made by whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.reconciliation.budget import Purpose
from bridge.reconciliation.client import Outcome


__all__ = ["ReconciliationStatistics"]


class ReconciliationStatistics:
    """
    Counts since the start.

    Args:
        accounts: The client ids there are: each has its zeros from the start.

    Attributes:
        requests: Requests that have ended, by client id and outcome.
        healed: Jobs whose end was written because the endpoint told it, by client id.
        superseded: Answers that were not needed, since the job was heard of or ended
            while it was asked about, by client id.
        unknown: Jobs of gaps that were given up as unknown, by client id; one that is
            known later is not taken off.
        waiting: Jobs that wait to be asked about now, by client id and purpose; those
            of gaps also where nothing is asked.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.requests: dict[tuple[str, str], int] = {
            (who, outcome): 0 for who in accounts for outcome in Outcome
        }
        self.healed = dict.fromkeys(accounts, 0)
        self.superseded = dict.fromkeys(accounts, 0)
        self.unknown = dict.fromkeys(accounts, 0)
        self.waiting: dict[tuple[str, str], int] = {
            (who, purpose): 0 for who in accounts for purpose in Purpose
        }
