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
from pathlib import Path
from typing import Any

import jsonschema

from tests.servers.reader import Record


__all__ = ["ReportedGap", "read_gaps"]

_SCHEMA = Path(__file__).parents[2] / "schemas" / "gap.schema.json"

# What the record that closes a gap says anew; healing adds members of its own.
_OF_THE_END = {"until", "duration_seconds"}
_ALWAYS = {"gap_id", "cause", "client_id", "since", "close_code", "jobs_in_flight"}


@dataclass(frozen=True)
class ReportedGap:
    """
    One gap; times are seconds since the epoch.

    Attributes:
        gap_id: Its name.
        cause: Its cause.
        since: What was sent before had arrived; minus infinity where null.
        until: What is sent from then on arrives; None if it was never closed.
    """

    gap_id: str
    cause: str
    since: float
    until: float | None

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
        identities.add(record.headers["ce_id"])
    gaps = []
    for values in of_gap.values():
        first, last = values[0], values[-1]
        gap = ReportedGap(
            first["gap_id"],
            first["cause"],
            _moment(first["since"], float("-inf")),
            None if last["until"] is None else _moment(last["until"], 0.0),
        )
        gaps.append(gap)
        found += [f"{gap}: {line}" for line in _course(values)]
    return gaps, found


def _course(values: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Say what is wrong with the records of one gap: it opens once and closes once."""
    opened = [value for value in values if value["until"] is None]
    closed = [value for value in values if value["until"] is not None]
    if len(opened) != 1 or values[0] is not opened[0]:
        yield f"{len(opened)} records open it"
    if len(closed) != 1:
        yield f"{len(closed)} records close it"
    for value in closed:
        for name in sorted(_ALWAYS - _OF_THE_END):
            if value[name] != values[0][name]:
                yield f"{name} was {values[0][name]!r} and is {value[name]!r}"
        if value["since"] is not None and value["until"] < value["since"]:
            yield f"it ends at {value['until']}, before it begins"


def _moment(text: str | None, unless: float) -> float:
    return unless if text is None else datetime.fromisoformat(text).timestamp()
