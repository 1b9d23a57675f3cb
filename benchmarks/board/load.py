"""
The records of a run: jobs as image jobs are, many at a time.

Owns which events there are, their values and their headers: those that the bridge
writes. Kafka must not be put here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence

from benchmarks.traffic import CLIENT_ID
from bridge.events.header_names import JOB_STATUS_TYPE, JSON_CONTENT
from bridge.events.record import Envelope, Origin, StoredRecord
from bridge.kafka.headers import HeaderWriter


__all__ = [
    "EVENTS_A_JOB",
    "PREVIEW_BYTES",
    "WATCHED",
    "Load",
    "Written",
    "history_jobs",
]

EVENTS_A_JOB = 10

# Of the text; the image has three quarters of it.
PREVIEW_BYTES = 20_000

# One job in ten shows two pictures: one event in fifty has one.
_PICTURED_JOBS = 10
_PICTURED_STEPS = (3, 6)
_FAILED_JOBS = 20

# Jobs of one event, whose ids say when it was written: a browser that looks for them
# tells how late each is.
WATCHED = "watched-"

# A board keeps 5,000 jobs and 64 MiB of pictures by default, some 4,300 of these: what
# was there before fills both, so that memory that grows is not memory that fills.
_HISTORY_JOBS = 6_000
_HISTORY_PICTURED = 5_000

# (key, value, headers), the latter as confluent-kafka takes them.
Written = tuple[bytes, bytes, list[tuple[str, str | bytes | None]]]


def history_jobs() -> tuple[int, int]:
    """Give how many jobs ended before a run, and how many of them with a picture."""
    return _HISTORY_JOBS, _HISTORY_PICTURED


class Load:
    """
    Records one after the other.

    Args:
        rate: Events a second: so many jobs run at a time, with an event a second each.
        pictures: Data URIs, given to jobs in turn.
        run: Another one's jobs have other ids.
    """

    def __init__(self, rate: int, pictures: Sequence[str], run: int = 0) -> None:
        self._together = max(1, rate)
        self._pictures = pictures
        self._run = run
        self._sequence = 0
        self._writer = HeaderWriter(str(uuid.UUID(int=run)))
        self._envelope = Envelope(
            f"https://api.dryapi.dev/clients/{CLIENT_ID}",
            JOB_STATUS_TYPE,
            Origin.SOCKET.value,
            JSON_CONTENT,
        )

    def event(self, index: int, now_us: int) -> Written:
        """
        Give an event of the run.

        Args:
            index: Which one, from 0.
            now_us: When the bridge has read it, microseconds since the epoch.
        """
        turn, place = divmod(index, self._together)
        # Jobs side by side are at different steps.
        turns, step = divmod(turn + place, EVENTS_A_JOB)
        job = turns * self._together + place
        is_pictured = job % _PICTURED_JOBS == 0 and step in _PICTURED_STEPS
        preview = self._picture(job) if is_pictured else None
        return self._record(self._id(job), _value(job, step, preview), now_us)

    def watched(self, now_us: int) -> Written:
        """Give the only event of a job that says when it was written."""
        return self._record(f"{WATCHED}{now_us}", {"status": "done"}, now_us)

    def history(self, now_us: int) -> Iterator[Written]:
        """Give the last events of jobs that ended before the run."""
        for number in range(_HISTORY_JOBS):
            is_pictured = number >= _HISTORY_JOBS - _HISTORY_PICTURED
            preview = self._picture(number) if is_pictured else None
            job = self._id(-1 - number)
            value = {"status": "done", "preview": preview, "progress": "100.00"}
            yield self._record(job, value, now_us)

    def _picture(self, job: int) -> str:
        return self._pictures[job % len(self._pictures)]

    def _id(self, job: int) -> str:
        number = (self._run << 64) | (job & (2**64 - 1))
        return str(uuid.UUID(int=number, version=4))

    def _record(
        self, request_id: str, members: dict[str, str | None], now_us: int
    ) -> Written:
        self._sequence += 1
        key = request_id.encode()
        value = {
            "request_id": request_id,
            "status": "",
            "preview": None,
            "result_url": None,
            "progress": None,
            **members,
        }
        text = json.dumps(value, separators=(",", ":")).encode()
        record = StoredRecord(
            sequence=self._sequence,
            ce_id=f"{self._run:08x}-{self._sequence}",
            key=key,
            value=text,
            received_at_us=now_us,
            envelope=self._envelope,
        )
        return key, text, [*self._writer.headers(record)]


def _value(job: int, step: int, preview: str | None) -> dict[str, str | None]:
    if step == 0:
        return {"status": "processing", "progress": "0.00"}
    if step < EVENTS_A_JOB - 1:
        progress = f"{step * 100 / EVENTS_A_JOB:.2f}"
        return {"status": "in_progress", "progress": progress, "preview": preview}
    if job % _FAILED_JOBS == 0:
        return {"status": "error", "error_code": "oom", "error_message": "no memory"}
    url = f"https://storage.dryapi.dev/results/{job}.jpg?signature={'5f' * 32}"
    return {"status": "done", "progress": "100.00", "result_url": url}
