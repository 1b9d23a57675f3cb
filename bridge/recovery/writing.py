"""
The records of gaps on their way: made, and handed on in order.

Owns their envelopes, and those that wait until there is somebody to take them. What
a gap says and when it is written is `ledger`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from bridge.events import header_names
from bridge.events.record import Envelope, Importance, Kind, Origin, Record
from bridge.recovery.gap import Gap


__all__ = ["GapWriter", "HandOn"]


class HandOn(Protocol):
    """Who takes the records of gaps."""

    def __call__(
        self, record: Record, *, opens: str | None = None, closes: str | None = None
    ) -> None:
        """
        Take a record; must not wait, and must not tell of a gap.

        Args:
            record: What is to be published.
            opens: A gap that is remembered from it on, with its value, for the next
                process; it may be remembered already.
            closes: A gap that may be forgotten.
        """


class GapWriter:
    """
    Writes gaps down; its caller holds a lock, so that they stay in order.

    Args:
        topic: Where gaps go.
        accounts: The `ce_source` of each client id.
        now_us: The time, microseconds since the epoch.
    """

    def __init__(
        self, topic: str, accounts: Mapping[str, str], now_us: Callable[[], int]
    ) -> None:
        self._topic = topic
        self._now_us = now_us
        self._envelopes = {
            client_id: Envelope(
                ce_source=ce_source,
                ce_type=header_names.GAP_TYPE,
                # A gap is one of the socket: what other ways bring has none.
                origin=Origin.SOCKET,
                content_type=header_names.JSON_CONTENT,
                kind=Kind.GAP,
            )
            for client_id, ce_source in accounts.items()
        }
        self._waiting: list[tuple[Record, str | None, str | None]] = []
        self._hand_on: HandOn | None = None

    def connect(self, hand_on: HandOn) -> None:
        """Name who takes the records, and give it those that wait."""
        self._hand_on = hand_on
        for record, opens, closes in self._waiting:
            hand_on(record, opens=opens, closes=closes)
        self._waiting.clear()

    def write(self, gap: Gap, *, is_remembered: bool, was_remembered: bool) -> None:
        """
        Hand on the record of a gap as it is now.

        Args:
            gap: It.
            is_remembered: Whether the next process is to know of it.
            was_remembered: Whether it would have until now.
        """
        opens = gap.gap_id if is_remembered else None
        closes = gap.gap_id if was_remembered and not is_remembered else None
        record = Record(
            topic=self._topic,
            key=gap.client_id.encode(),
            value=gap.encode(),
            received_at_us=self._now_us(),
            envelope=self._envelopes[gap.client_id],
            importance=Importance.TERMINAL,
        )
        if self._hand_on is None:
            self._waiting.append((record, opens, closes))
        else:
            self._hand_on(record, opens=opens, closes=closes)
