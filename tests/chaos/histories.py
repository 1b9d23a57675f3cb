"""Histories for the judge of `make healing`: upstream, topic and ledger, made up.

Owns one history in which all is well, in parts that a test may break. Times are small
numbers of seconds; a gap lasts from 100 to 110.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.fates import AccountTruth, Fate, Limits, Step, Truth
from tests.chaos.gaps import ReportedGap
from tests.chaos.healing_verdict import (
    HealingVerdict,
    Waiting,
    judge_healing,
    waiting,
)
from tests.kit.reader import Record


__all__ = ["PREMIUM", "History", "all_is_well", "fate"]

PREMIUM = Limits(300, None)

# What dryAPI waits between the tries of a webhook, shortened by a hundred.
_WAITS = (0.6, 1.2, 3.0, 6.0, 18.0, 36.0)


@dataclass
class History:
    """
    What comes before the judge.

    Attributes:
        truth: What upstream knows.
        gaps: The gaps of each account.
        records: The topic, in the order in which it was written.
        seen: When a consumer had each of them.
    """

    truth: Truth
    gaps: dict[str, list[ReportedGap]]
    records: list[Record] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    def say(
        self,
        client_id: str,
        request_id: str,
        status: str,
        read: float,
        *,
        origin: str = "socket",
        seen: float | None = None,
        progress: str = "0.00",
        partition: int = 0,
        **more: str,
    ) -> None:
        """Write a record."""
        value = {"request_id": request_id, "status": status, "progress": progress}
        number = max((each.offset for each in self.records), default=-1) + 1
        self.records.append(
            Record(
                partition,
                number,
                request_id.encode(),
                json.dumps(value | more).encode(),
                {
                    "ce_id": b"a-%d" % number,
                    "ce_source": f"http://api/clients/{client_id}".encode(),
                    "bridge_origin": origin.encode(),
                },
                round(read * 1000),
            )
        )
        self.seen.append(read + 0.1 if seen is None else seen)

    def of(self, request_id: str) -> list[int]:
        """Give the places of a job's records, in order."""
        keys = [record.key for record in self.records]
        return [n for n, key in enumerate(keys) if key == request_id.encode()]

    def drop(self, place: int) -> None:
        """Take a record away."""
        del self.records[place], self.seen[place]

    def change_gap(self, client_id: str, **changes: Any) -> None:
        """Let the first gap of an account say something else."""
        gaps = self.gaps[client_id]
        gaps[0] = ReportedGap(**(vars(gaps[0]) | changes))

    def judge(self) -> HealingVerdict:
        """Hear the judge."""
        return judge_healing(self.truth, self.records, self._seen(), self.gaps)

    def waiting(self) -> list[Waiting]:
        """Hear what is waited for."""
        return waiting(self.truth, self.records, self._seen(), self.gaps)

    def _seen(self) -> dict[tuple[int, int], float]:
        return {
            (record.partition, record.offset): at
            for record, at in zip(self.records, self.seen, strict=True)
        }


def fate(
    request_id: str,
    steps: Sequence[tuple[float, str, bool | None]],
    *,
    error_code: str | None = None,
) -> Fate:
    """
    Make a job as upstream knows it.

    Args:
        request_id: Its name.
        steps: When it was what, and whether soketi took the event.
        error_code: Why it failed.
    """
    made = []
    for at, status, taken in steps:
        # No event tells of a failure.
        begun, ended = (None, None) if status == "error" else (at, at + 0.01)
        made.append(Step(status, at, "0.00", begun, ended, taken))
    return Fate(request_id, made, error_code)


def _account(
    client_id: str, fates: Sequence[Fate], waits: Sequence[float] | None
) -> AccountTruth:
    return AccountTruth(
        client_id, PREMIUM, waits, {each.request_id: each for each in fates}
    )


def all_is_well() -> History:
    """
    Make the history that has nothing wrong.

    `bare` has no webhooks: its job `a` is done within the gap, `c` began and ended in
    it, `d` went on over it, `f` fails in it. `hooked` has: `b` began and failed in the
    gap.
    """
    bare = _account(
        "bare",
        [
            fate("a", [(90, "processing", True), (105, "done", False)]),
            fate("c", [(102, "processing", False), (107, "done", False)]),
            fate("d", [(95, "processing", True), (120, "done", True)]),
            fate("f", [(96, "processing", True), (106, "error", False)]),
        ],
        None,
    )
    hooked = _account(
        "hooked",
        [
            fate(
                "b",
                [(102, "processing", False), (107, "error", False)],
                error_code="WORKER_TIMEOUT",
            )
        ],
        _WAITS,
    )
    gap = ReportedGap("g", "disconnected", 99.5, 110.0, opened=100.1)
    history = History(
        Truth([bare, hooked], silent_seconds=20.0),
        {
            "bare": [replace(gap, jobs_in_flight=3, healed=(2, 0), unknown=0)],
            "hooked": [replace(gap, jobs_in_flight=0, healed=(0, 1), unknown=0)],
        },
    )
    history.say("bare", "a", "processing", 90.05)
    history.say("bare", "d", "processing", 95.05)
    history.say("bare", "f", "processing", 96.05)
    history.say("bare", "a", "done", 110.5, origin="status-endpoint")
    history.say("bare", "f", "error", 112.0, origin="status-endpoint")
    history.say(
        "hooked",
        "b",
        "error",
        107.1,
        origin="webhook",
        seen=117.2,
        error_code="WORKER_TIMEOUT",
    )
    history.say("bare", "d", "done", 120.05)
    return history
