"""Gaps as a consumer of `jobs.gaps` reads them, and what is wrong with their records.

It imports nothing of the bridge. What holds for every record, whatever its topic, is
for `tests.kit.judge`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.kit.reader import Record


# What the records of one gap repeat.
_SAME = ("cause", "client_id", "close_code", "jobs_in_flight")

_OUTCOME = ("healed_by_status_endpoint", "healed_by_webhook", "unknown")


@dataclass(frozen=True)
class Gap:
    """One gap; times are seconds since the epoch."""

    gap_id: str
    cause: str
    client_id: str
    since: float
    until: float | None
    opened: float = 0.0
    close_code: int | None = None
    jobs_in_flight: int | None = None
    healed: tuple[int, int] | None = None
    unknown: int | None = None

    def contains(self, first: float, last: float) -> bool:
        """Whether all that was sent between two moments is reported as missing."""
        return self.until is not None and self.since <= first <= last <= self.until

    def covers(self, begun: float, ended: float, tolerance_seconds: float) -> bool:
        """Whether something that happened between two moments may lie in it."""
        return (
            self.until is not None
            and ended >= self.since - tolerance_seconds
            and begun <= self.until + tolerance_seconds
        )

    def __str__(self) -> str:
        length = "open" if self.until is None else f"{self.until - self.since:.2f} s"
        return f"gap {self.gap_id[:8]} ({self.cause}, since {self.since:.3f}, {length})"


def read_gaps(records: Sequence[Record]) -> tuple[list[Gap], list[str]]:
    """Read the ledger."""
    by_id: dict[str, list[tuple[Record, dict[str, Any]]]] = {}
    for record in records:
        value = json.loads((record.value or b"").removeprefix(_prefix(record)))
        by_id.setdefault(value["gap_id"], []).append((record, value))
    gaps, found = [], []
    for pairs in by_id.values():
        values = [value for _, value in pairs]
        gap = _gap(values, pairs[0][0].timestamp / 1000)
        gaps.append(gap)
        found += [f"{gap}: {line}" for line in _course(values)]
    return sorted(gaps, key=lambda gap: gap.opened), found


def _prefix(record: Record) -> bytes:
    """The Schema Registry's five bytes before the JSON, where they are."""
    framed = record.headers.get("content-type") == b"application/octet-stream"
    return (record.value or b"")[:5] if framed else b""


def _gap(values: Sequence[Mapping[str, Any]], opened: float) -> Gap:
    first, last = values[0], values[-1]
    outcome: list[Any] = [last.get(name) for name in _OUTCOME]
    return Gap(
        first["gap_id"],
        first["cause"],
        first["client_id"],
        float("-inf") if last["since"] is None else _moment(last["since"]).timestamp(),
        None if last["until"] is None else _moment(last["until"]).timestamp(),
        opened,
        last["close_code"],
        last["jobs_in_flight"],
        None if None in outcome else (outcome[0], outcome[1]),
        outcome[2],
    )


def _course(values: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what is wrong with one gap's records: opened, closed, then resolved."""
    opened = [value for value in values if value["until"] is None]
    ended = [value for value in values if value["until"] is not None]
    closed = [value for value in ended if value.get("unknown") is None]
    resolved = [value for value in ended if value.get("unknown") is not None]
    if len(opened) != 1 or values[0] is not opened[0]:
        yield f"{len(opened)} records open it"
    if ended and (len(closed) != 1 or ended[0] is not closed[0]):
        yield f"{len(closed)} records close it"
    yield from (
        f"{line} in record {n}" for n, v in enumerate(values) for line in _own(v)
    )
    for before, after in pairwise(values):
        for name in _SAME:
            # How many jobs were in flight may be found out after it has opened.
            late = name == "jobs_in_flight" and before[name] is None
            if before[name] != after[name] and not late:
                yield f"{name} was {before[name]!r} and is {after[name]!r}"
        if before["until"] is not None and after["until"] != before["until"]:
            yield f"it ended at {before['until']}, and then at {after['until']}"
        # More may turn out to be lost, never less. RFC 3339 sorts as text.
        if (after["since"] or "") > (before["since"] or ""):
            yield f"since was {before['since']} and is {after['since']}"
    yield from _resolution(resolved)


def _own(value: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with one record beside the schema."""
    duration = value["duration_seconds"]
    if value["since"] is None or value["until"] is None:
        if duration is not None:
            yield f"a duration of {duration} s without both bounds"
        return
    length = _moment(value["until"]) - _moment(value["since"])
    if length < timedelta(0):
        yield f"it ends at {value['until']}, before it begins"
    if duration != length.total_seconds():
        yield f"a duration of {duration} s, not {length.total_seconds()}"


def _resolution(resolved: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what is wrong with what became of its jobs."""
    outcomes: list[tuple[Any, ...]] = [
        tuple(value.get(name) for name in _OUTCOME) for value in resolved
    ]
    yield from (f"resolved with {each}" for each in outcomes if None in each)
    for before, after in pairwise(outcomes):
        if after == before:
            yield f"resolved with {after} twice"
        elif any(now < once for once, now in zip(before[:2], after[:2], strict=True)):
            yield f"healed {after[:2]} after {before[:2]}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
