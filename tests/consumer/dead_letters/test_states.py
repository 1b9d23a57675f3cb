"""How far jobs have come, and what is late for them."""

from __future__ import annotations

import pytest

from bridge.consumer.dead_letters.states import JobStates
from bridge.kafka.reader import ConsumedRecord
from tests.consumer.dead_letters.letters import payload


_JOB = b"job-1"
_LATE_US = 2_000_000


def states_of(*records: ConsumedRecord) -> JobStates:
    """Read records of one job."""
    states = JobStates({_JOB})
    for record in records:
        states.learn(record)
    return states


def on_jobs(
    status: str,
    at_us: int = 1_000_000,
    *,
    key: bytes | None = _JOB,
    prefix: bytes = b"",
    **headers: bytes,
) -> ConsumedRecord:
    """Make a record of the topic of jobs."""
    value = prefix + payload("job-1", status)
    time = f"1970-01-01T00:00:0{at_us // 1_000_000}.{at_us % 1_000_000:06d}Z"
    return ConsumedRecord(
        "jobs", 0, 0, 0, key, value, {"ce_time": time.encode(), **headers}
    )


@pytest.mark.parametrize("last", ["done", "error"])
@pytest.mark.parametrize("status", ["processing", "in_progress", "done", "error"])
def test_a_job_that_has_ended_takes_nothing_more(last: str, status: str) -> None:
    """Whenever the event was read: the last record stays the last."""
    states = states_of(on_jobs(last))
    assert states.has_overtaken(_JOB, status, 0)
    assert states.has_overtaken(_JOB, status, _LATE_US)


@pytest.mark.parametrize(
    ("state", "event", "at_us", "overtaken"),
    [
        ("processing", "in_progress", _LATE_US, False),
        ("in_progress", "in_progress", _LATE_US, False),
        ("in_progress", "processing", _LATE_US, True),
        ("in_progress", "in_progress", 999_999, True),
        # Of one reading of the socket: nobody knows which came first.
        ("in_progress", "in_progress", 1_000_000, False),
        ("processing", "in_progress", 999_999, True),
        ("in_progress", "done", 999_999, False),
        ("in_progress", "error", 999_999, False),
    ],
)
def test_a_running_job_takes_what_is_later_and_its_end(
    state: str, event: str, at_us: int, *, overtaken: bool
) -> None:
    """A step back would show a job as less far than its reader knows it to be."""
    states = states_of(on_jobs(state))
    assert states.has_overtaken(_JOB, event, at_us) is overtaken


def test_a_job_without_records_takes_everything() -> None:
    """Nothing on the topic is nothing that could be overtaken."""
    assert not states_of().has_overtaken(_JOB, "processing", 0)


def test_other_records_are_let_be() -> None:
    """Other jobs, other people's records and tombstones tell nothing of this one."""
    states = states_of(
        on_jobs("done", key=b"job-2"),
        on_jobs("done", key=None),
        on_jobs("done", prefix=b"\xff"),
        ConsumedRecord("jobs", 0, 0, 0, _JOB, None, {}),
        ConsumedRecord("jobs", 0, 0, 0, _JOB, b"[1]", {}),
        ConsumedRecord("jobs", 0, 0, 0, _JOB, b"[" * 100_000, {}),
    )
    assert not states.has_overtaken(_JOB, "processing", 0)
