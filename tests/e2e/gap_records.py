"""
What stands on the ledger of gaps, judged against the design and its schema.

Owns the claims that hold for every gap, whatever caused it. It imports nothing of
the bridge: the claims must not be the bridge's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema

from tests.e2e.topic_records import check_dense
from tests.kit.reader import Record


__all__ = ["Gap", "bounds_of", "gaps_of", "now", "read_at"]

_SCHEMA = Path(__file__).parents[2] / "schemas" / "gap.schema.json"

# What may differ between a gap's records: the end, and the begin where more was lost
# than was known when it opened.
_OF_THE_END = ("since", "until", "duration_seconds")


@dataclass(frozen=True)
class Gap:
    """
    A gap as its records tell of it.

    Attributes:
        gap_id: Which one.
        cause: Why.
        client_id: Whose.
        since: What was sent before had arrived; None if nobody knows.
        until: What is sent from then on arrives; None while it is open.
        close_code: What ended the connection, if a code did.
        jobs_in_flight: How many were known when it opened; None if nobody knows.
    """

    gap_id: str
    cause: str
    client_id: str
    since: datetime | None
    until: datetime | None
    close_code: int | None
    jobs_in_flight: int | None

    def covers(self, first: datetime, last: datetime) -> bool:
        """Tell whether what was sent between these moments is told to be missing."""
        assert self.since is not None
        assert self.until is not None
        return self.since <= first <= last <= self.until


def bounds_of(records: Sequence[Record]) -> list[Record]:
    """Give the records that open or close a gap, not those of what became of jobs."""
    return [record for record in records if b'"unknown":' not in (record.value or b"")]


def gaps_of(records: Sequence[Record]) -> list[Gap]:
    """
    Give the gaps in the order in which they opened.

    Each has one record for its begin and, if it has ended, one for its end, which
    agree but for a begin that was taken back; those that tell what became of its jobs
    come after, and say the same of the rest. Each record has the designed key, headers
    and a value by the schema.
    """
    validator = jsonschema.Draft202012Validator(json.loads(_SCHEMA.read_text()))
    by_id: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        assert record.value is not None
        value = json.loads(record.value)
        validator.validate(value)
        assert record.key == value["client_id"].encode() == record.headers["ce_subject"]
        assert record.headers["ce_type"] == b"dev.dryapi.bridge.gap"
        assert record.headers["ce_source"].endswith(b"/clients/" + record.key)
        by_id.setdefault(value["gap_id"], []).append(value)
    check_dense(records)
    return [_gap(values) for values in by_id.values()]


def _gap(values: Sequence[dict[str, Any]]) -> Gap:
    opened, *ended = values
    assert opened["until"] is None
    assert opened["duration_seconds"] is None
    assert not [value for value in ended[:1] if "unknown" in value]
    assert all("unknown" in value for value in ended[1:])
    for value in ended:
        assert value["until"] is not None
        same = {name: opened[name] for name in opened if name not in _OF_THE_END}
        if opened["jobs_in_flight"] is None:
            # It may be found out later.
            del same["jobs_in_flight"]
        assert same.items() <= value.items()
        # RFC 3339 with microseconds in UTC: in order as texts too.
        assert (value["since"] or "") <= (opened["since"] or "")
    last = values[-1]
    since, until = (_moment(last[name]) for name in ("since", "until"))
    if since is not None and until is not None:
        assert last["duration_seconds"] == (until - since).total_seconds() >= 0
    else:
        assert last["duration_seconds"] is None
    return Gap(
        gap_id=last["gap_id"],
        cause=last["cause"],
        client_id=last["client_id"],
        since=since,
        until=until,
        close_code=last["close_code"],
        jobs_in_flight=last["jobs_in_flight"],
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def now() -> datetime:
    """Give this moment; the bridge has the same clock."""
    return datetime.now(UTC)


def read_at(record: Record) -> datetime:
    """Tell when the bridge read it."""
    return datetime.fromisoformat(record.headers["ce_time"].decode())
