"""Jobs stay on the partition where they began when their topic gets more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.events.record import Record
from bridge.outbox.store import Store
from tests.outbox.making import event, fresh, spread, stored


JOBS = [f"job-{number}" for number in range(40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def grow(store: Store, former: int | None, partitions: int) -> None:
    """Open the topic with another count than before, as the relay does."""
    with store.transaction():
        store.open_topic(
            "jobs",
            spread(partitions),
            fresh(partitions),
            "an id",
            former_partition_of=None if former is None else spread(former),
        )


def commit(store: Store, *records: Record) -> None:
    """Make one transaction, as the outbox's thread does."""
    with store.transaction():
        store.claim(1000, 2**20)
        store.append(records)


def homes(store: Store) -> dict[str, set[int]]:
    """Tell on which partitions the rows of each job stand."""
    found = defaultdict(set)
    with store.reading():
        for state in store.lane_states():
            rows = store.read("jobs", state.partition, 0, 10_000, 2**30)
            for row in rows:
                assert row.key is not None
                found[row.key.decode()].add(state.partition)
    return dict(found)


def home(job: str, partitions: int) -> set[int]:
    """Tell where a job belongs with so many partitions."""
    return {spread(partitions)(job.encode())}


@pytest.fixture
def grown(path: Path) -> Iterator[Store]:
    """A topic with jobs in flight that has got 7 partitions instead of 3."""
    with stored(path) as store:
        grow(store, None, 3)
        commit(store, *(event(job) for job in JOBS))
        grow(store, 3, 7)
        yield store


def test_a_job_in_flight_stays_and_a_new_one_goes_where_it_belongs(
    grown: Store,
) -> None:
    """Each job's rows stand on one partition; new jobs find the new partitions."""
    new = [f"new-{number}" for number in range(40)]
    commit(grown, *(event(job) for job in JOBS + new))
    commit(grown, *(event(job, "done") for job in JOBS + new))
    expected = {job: home(job, 3) for job in JOBS} | {job: home(job, 7) for job in new}
    assert homes(grown) == expected
    assert {number for numbers in expected.values() for number in numbers} == {
        *range(7)
    }


def test_pins_outlive_the_process(path: Path, grown: Store) -> None:
    """The next process finds them, before and after its topic is open."""
    grown.close()
    with stored(path) as store:
        # Kafka isn't reached yet: half of the jobs end meanwhile.
        commit(store, *(event(job, "done") for job in JOBS[:20]))
        commit(store)
        grow(store, None, 7)
        commit(store, *(event(job) for job in JOBS[20:]))
        commit(store, *(event(job, "done") for job in JOBS[20:]))
        assert homes(store) == {job: home(job, 3) for job in JOBS}
        commit(store)


def test_a_change_while_the_bridge_was_down_is_kept_from_its_jobs(path: Path) -> None:
    """Ends that were read before Kafka was reached follow the events before them."""
    with stored(path) as store:
        grow(store, None, 3)
        commit(store, *(event(job) for job in JOBS))
    with stored(path) as store:
        commit(store, *(event(job, "done") for job in JOBS[:20]))
        grow(store, 3, 7)
        commit(store, *(event(job, "done") for job in JOBS[20:]))
        commit(store)
        assert homes(store) == {job: home(job, 3) for job in JOBS}
        commit(store)


def test_two_changes_leave_each_job_where_it_began(grown: Store) -> None:
    """A job keeps its first partition, not the one it would have had in between."""
    between = [f"between-{number}" for number in range(40)]
    commit(grown, *(event(job) for job in between))
    grow(grown, 7, 20)
    last = [f"last-{number}" for number in range(40)]
    for status in ("in_progress", "done"):
        commit(grown, *(event(job, status) for job in JOBS + between + last))
    assert homes(grown) == (
        {job: home(job, 3) for job in JOBS}
        | {job: home(job, 7) for job in between}
        | {job: home(job, 20) for job in last}
    )


def test_a_topic_made_anew_with_less_pins_nobody_to_what_is_gone(
    grown: Store,
) -> None:
    """Where its partition isn't there any more, a job goes where its key belongs."""
    grow(grown, 7, 2)
    commit(grown, *(event(job, "done") for job in JOBS))
    assert {*map(len, homes(grown).values())} <= {1, 2}


def test_a_change_that_is_undone_pins_nobody(path: Path) -> None:
    """With the transaction its pins go, in memory too."""
    with stored(path) as store:
        grow(store, None, 3)
        commit(store, *(event(job) for job in JOBS))

        def fail() -> None:
            with store.transaction():
                store.open_topic(
                    "jobs", spread(7), fresh(7), None, former_partition_of=spread(3)
                )
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        commit(store, *(event(f"new-{number}") for number in range(40)))
        assert {one for found in homes(store).values() for one in found} == {0, 1, 2}
