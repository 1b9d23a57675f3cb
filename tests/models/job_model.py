"""
Jobs that begin, go on and end, for the store's model.

A job stands where its last event left it; one that has ended stays so, whatever comes
after its end, unless its file was put back to a time before that.
"""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

from bridge.outbox.jobs.in_flight import Jobs
from hypothesis import strategies as st

from bridge.events import header_names
from bridge.events.record import Envelope, Record, StoredRecord
from bridge.outbox.jobs import table as job_table
from tests.models.store_model import Model


Heard = tuple[str, str | None, int]
_Family = tuple[str, int]
Events = list[tuple[_Family, str]]

_ACCOUNTS = tuple(
    Envelope(f"https://api/clients/{number}", header_names.JOB_STATUS_TYPE, origin, "")
    for number, origin in enumerate(("socket", "webhook"))
)
# A family of jobs that follow each other, and its account: one key names jobs of two.
_FAMILIES = (("a", 0), ("b", 0), ("a", 1))
_EVENTS = ("goes on", "goes on", "ends", "comes late")

some_events = st.lists(
    st.tuples(st.sampled_from(_FAMILIES), st.sampled_from(_EVENTS)),
    min_size=1,
    max_size=9,
)


def small_steps() -> Any:
    """Have the table of jobs written in steps of one; to be started and stopped."""
    return patch.multiple(job_table, _JOBS_A_COMMIT=1, _INTERVAL_SECONDS=0.0)


def partition_of(key: bytes | None) -> int:
    """Give the partition of a family."""
    return int(key is not None and key.startswith(b"a"))


def number_of(row: StoredRecord | Record) -> int:
    """Read back the number that `Lives` gave."""
    return int(dict(row.extra)["number"])


class Lives:
    """
    The jobs of the world; it goes on whatever happens to a file.

    Attributes:
        ended: How many jobs of a family have ended.
    """

    def __init__(self) -> None:
        self.ended = dict.fromkeys(_FAMILIES, 0)

    def records(self, first: int, events: Events) -> list[Record]:
        """Let events happen; their records are numbered."""
        return [
            self._record(number, *event) for number, event in enumerate(events, first)
        ]

    def hear(self, model: Model, events: Events, told: list[Record]) -> None:
        """Learn what a file's jobs are once these records are in it."""
        for ((_, account), event), one in zip(events, told, strict=True):
            assert one.key is not None
            assert one.status is not None
            job = (account, one.key)
            if event == "ends":
                model.jobs.pop(job, None)
                model.ended.add(job)
            elif job not in model.ended:
                model.jobs[job] = (one.status, one.progress, one.received_at_us)

    def check(self, model: Model, known: Jobs) -> None:
        """See that a store knows what it should."""
        assert _in_flight(known) == model.jobs
        for account, key in model.ended:
            whose = known.account(_ACCOUNTS[account].ce_source)
            assert known.has_ended(whose, key)

    def _record(self, number: int, family: _Family, event: str) -> Record:
        letter, account = family
        generation = max(self.ended[family] - (event == "comes late"), 0)
        self.ended[family] += event == "ends"
        key, progress = f"{letter}{generation}", f"{number}.00"
        status = "done" if event == "ends" else "in_progress"
        told = {"request_id": key, "status": status, "progress": progress}
        return Record(
            "jobs",
            key.encode(),
            json.dumps(told | {"preview": None, "result_url": None}).encode(),
            number,
            _ACCOUNTS[account],
            (("number", str(number).encode()),),
            status=status,
            progress=progress,
        )


def _in_flight(known: Jobs) -> dict[tuple[int, bytes], Heard]:
    jobs: dict[tuple[int, bytes], Heard] = {}
    for account, envelope in enumerate(_ACCOUNTS):
        found = known.of(envelope.ce_source)
        assert len(found) == known.count(envelope.ce_source)
        for job in found:
            heard = (job.status, job.progress, job.last_seen_us)
            jobs[account, job.request_id.encode()] = heard
    return jobs
