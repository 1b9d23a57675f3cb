"""
The numbers of gaps since the start: what the metrics read.

Owns them and their zeros. Who counts is `ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bridge.events.record import Origin
from bridge.recovery.gap import GapCause


__all__ = ["GapStatistics"]

_HEALS: Final = (Origin.STATUS_ENDPOINT, Origin.WEBHOOK)


class GapStatistics:
    """
    Counts since the start.

    Args:
        accounts: The client ids there are: each has its zeros from the start.

    Attributes:
        gaps: Gaps that opened, by client id and cause.
        open: Gaps that are open now, by client id.
        seconds: Seconds of the gaps that have closed, by client id.
        settled: Gaps that were settled, by client id.
        healed: Jobs whose end was learned after all, by client id and origin: each
            once, though it may be counted in several gaps.
        unknown: Jobs of which nobody can tell, in the gaps that are remembered now, by
            client id.
    """

    def __init__(self, accounts: Iterable[str]) -> None:
        accounts = list(accounts)
        self.gaps: dict[tuple[str, str], int] = {
            (who, cause): 0 for who in accounts for cause in GapCause
        }
        self.open = dict.fromkeys(accounts, 0)
        self.seconds = dict.fromkeys(accounts, 0.0)
        self.settled = dict.fromkeys(accounts, 0)
        self.healed: dict[tuple[str, str], int] = {
            (who, origin): 0 for who in accounts for origin in _HEALS
        }
        self.unknown = dict.fromkeys(accounts, 0)
