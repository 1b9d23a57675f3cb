"""The gaps that a bridge reported, as a consumer of `jobs.gaps` reads them.

Pure: records come in, gaps and what is wrong with their records go out. It imports
nothing of the bridge.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema

from tests.kit.reader import Record


__all__ = ["ReportedGap", "read_gaps"]

_SCHEMA = Path(__file__).parents[2] / "schemas" / "gap.schema.json"

# What later records of a gap repeat; those of its end and of its healing come anew.
_ALWAYS = {"gap_id", "cause", "client_id", "since", "close_code", "jobs_in_flight"}
_HEALING = ("healed_by_status_endpoint", "healed_by_webhook", "unknown")


@dataclass(frozen=True)
class ReportedGap:
    """
    One gap; times are seconds since the epoch.

    Attributes:
        gap_id: Its name.
        cause: Its cause.
        since: What was sent before had arrived; minus infinity where null.
        until: What is sent from then on arrives; None if it was never closed.
        opened: When its first record was made.
        jobs_in_flight: How many jobs were known when it opened; None if nobody knew.
        healed: How many of its jobs the status endpoint and webhooks healed; None if
            that was never told.
        unknown: How many stayed unknown; None if that was never told.
    """

    gap_id: str
    cause: str
    since: float
    until: float | None
    opened: float = 0.0
    jobs_in_flight: int | None = None
    healed: tuple[int, int] | None = None
    unknown: int | None = None

    def covers(self, begun: float, ended: float, tolerance_seconds: float) -> bool:
        """Tell whether something that happened between two moments may lie in it."""
        return (
            self.until is not None
            and ended >= self.since - tolerance_seconds
            and begun <= self.until + tolerance_seconds
        )

    def __str__(self) -> str:
        length = "open" if self.until is None else f"{self.until - self.since:.2f} s"
        return f"gap {self.gap_id[:8]} ({self.cause}, since {self.since:.3f}, {length})"


def read_gaps(
    records: Sequence[Record], client_id: str
) -> tuple[list[ReportedGap], list[str]]:
    """
    Read the ledger of one account.

    Args:
        records: All records of the topic, by offset.
        client_id: The account.

    Returns:
        The gaps, in the order in which they opened, and what is wrong with them.
    """
    schema = json.loads(_SCHEMA.read_text())
    validator = jsonschema.Draft202012Validator(schema)
    found: list[str] = []
    of_gap: dict[str, list[dict[str, Any]]] = defaultdict(list)
    opened: dict[str, float] = {}
    identities = set()
    for record in records:
        assert record.value is not None
        value = json.loads(record.value)
        found += [
            f"gap record at {record.offset}: {error.message}"
            for error in validator.iter_errors(value)
        ]
        if record.key != client_id.encode() or value["client_id"] != client_id:
            found.append(f"gap record at {record.offset} is of {record.key!r}")
        # The same record once more is a late write, which `jobs` may have as well.
        if record.headers["ce_id"] not in identities:
            of_gap[value["gap_id"]].append(value)
            opened.setdefault(value["gap_id"], record.timestamp / 1000)
        identities.add(record.headers["ce_id"])
    gaps = []
    for values in of_gap.values():
        gap = _gap(values, opened[values[0]["gap_id"]])
        gaps.append(gap)
        found += [f"{gap}: {line}" for line in _course(values)]
    return gaps, found


def _gap(values: Sequence[dict[str, Any]], opened: float) -> ReportedGap:
    first, last = values[0], values[-1]
    told: list[Any] = [last.get(name) for name in _HEALING]
    return ReportedGap(
        first["gap_id"],
        first["cause"],
        _moment(first["since"], float("-inf")),
        None if last["until"] is None else _moment(last["until"], 0.0),
        opened,
        last["jobs_in_flight"],
        None if None in told else (told[0], told[1]),
        told[2],
    )


def _course(values: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Say what is wrong with the records of one gap: opened, closed, then settled."""
    opened = [value for value in values if value["until"] is None]
    ended = [value for value in values if value["until"] is not None]
    closed = [value for value in ended if value.get("unknown") is None]
    settled = [value for value in ended if value.get("unknown") is not None]
    if len(opened) != 1 or values[0] is not opened[0]:
        yield f"{len(opened)} records open it"
    if len(closed) != 1 or ended[0] is not closed[0]:
        yield f"{len(closed)} records close it"
    for value in ended:
        for name in sorted(_ALWAYS):
            # How many jobs there were may be found out after it has opened.
            late = name == "jobs_in_flight" and values[0][name] is None
            if value[name] != values[0][name] and not late:
                yield f"{name} was {values[0][name]!r} and is {value[name]!r}"
        if value["since"] is not None and value["until"] < value["since"]:
            yield f"it ends at {value['until']}, before it begins"
        if value["until"] != ended[0]["until"]:
            yield f"it ended at {ended[0]['until']}, and then at {value['until']}"
    yield from _healing(settled)


def _healing(settled: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Say what is wrong with what a gap's records tell of its healing."""
    told: list[tuple[Any, ...]] = [
        tuple(value.get(name) for name in _HEALING) for value in settled
    ]
    for before, after in pairwise(told):
        if None in after or after == before:
            yield f"settled with {after} after {before}"
        elif any(now < once for once, now in zip(before[:2], after[:2], strict=True)):
            yield f"healed {after[:2]} after {before[:2]}"


def _moment(text: str | None, unless: float) -> float:
    return unless if text is None else datetime.fromisoformat(text).timestamp()
