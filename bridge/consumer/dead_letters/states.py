"""
How far jobs have come on their topic: what a replayed event must not come after.

Owns what is known of each job that a replay has events of, and what overtakes an
event. It does no input or output.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from bridge.consumer.dead_letters.letter import received_at_us
from bridge.consumer.framed import unframed
from bridge.events import header_names as names
from bridge.events.job_status import STATUSES, TERMINAL_STATUSES
from bridge.kafka.reader import ConsumedRecord


__all__ = ["JobStates"]


class _Payload(msgspec.Struct):
    status: str


_decode = msgspec.json.Decoder(_Payload).decode

# As a job goes through them; nothing follows one of the last two.
_RANKS = {status: rank for rank, status in enumerate(STATUSES)} | (
    dict.fromkeys(TERMINAL_STATUSES, len(STATUSES))
)


class JobStates:
    """
    The states of some jobs.

    Args:
        keys: The jobs; all others are passed over, so that memory has this bound.

    Attributes:
        replayed: Dead letters whose events stand on the topic, by their `ce_id`.
    """

    def __init__(self, keys: Collection[bytes]) -> None:
        self._keys = keys
        # (the furthest status, when the latest event was read)
        self._states: dict[bytes, tuple[int, int]] = {}
        self.replayed: set[str] = set()

    def learn(self, record: ConsumedRecord) -> None:
        """Learn from a record of the topic of jobs; what is none of them is let be."""
        key = record.key
        if key is None or key not in self._keys:
            return
        letter = record.headers.get(names.BRIDGE_REPLAYED_CE_ID)
        if letter is not None:
            self.replayed.add(letter.decode(errors="replace"))
        try:
            status = _decode(unframed(record)[1]).status
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self.note(key, status, received_at_us(record))

    def note(self, key: bytes, status: str, at_us: int) -> None:
        """Learn that an event of a job stands on the topic, or will."""
        rank, latest_us = self._states.get(key, (-1, -1))
        self._states[key] = max(rank, _RANKS.get(status, -1)), max(latest_us, at_us)

    def has_overtaken(self, key: bytes, status: str, at_us: int) -> bool:
        """
        Tell whether a job is past an event.

        A job that has ended is past all of them. Else a last event is never too late,
        and another one is where the job has a later status or an event that was read
        later.
        """
        rank, latest_us = self._states.get(key, (-1, -1))
        if rank == len(STATUSES):
            return True
        if status in TERMINAL_STATUSES:
            return False
        return rank > _RANKS.get(status, -1) or latest_us > at_us
