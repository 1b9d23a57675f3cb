"""Which job is asked about next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.reconciliation.order import Key, Queue, Rank, rank
from bridge.record import JobInFlight


def job(
    name: str, status: str = "in_progress", progress: str | None = None, seen: int = 0
) -> JobInFlight:
    """Give a job."""
    return JobInFlight(name, status, progress, seen)


def test_likeliest_to_have_finished_is_first() -> None:
    """What runs before what waits, the furthest first, then the longest silent."""
    jobs = [
        job("nearly", progress="99.99"),
        job("hundred-times-less", progress="9.999"),
        job("older", progress="9", seen=1),
        job("younger", progress="9", seen=2),
        job("begun", progress="0.00"),
        job("nothing-said"),
        job("further-but-queued", "processing", "10.00"),
        job("queued", "processing"),
        job("of-another-version", "resting", "99.00"),
    ]
    otherwise = jobs[::-1]
    assert sorted(otherwise, key=rank) == jobs


def test_job_asked_about_in_vain_is_behind_all_others() -> None:
    """However likely it has finished."""
    assert rank(job("a", progress="99.00"), 1) > rank(job("b", "processing"))
    assert rank(job("a", progress="99.00"), 2) > rank(job("b", "processing"), 1)


_KEYS = st.tuples(st.sampled_from("ab"), st.sampled_from("0123"))
_RANKS = st.tuples(st.integers(0, 1), st.integers(0, 2), st.floats(-9, 0), st.just(0))
_STEPS = st.lists(st.tuples(_KEYS, st.none() | _RANKS))


@given(_STEPS)
def test_queue_gives_the_lowest_that_is_in_it(
    steps: list[tuple[Key, Rank | None]],
) -> None:
    """Whatever was put, put elsewhere and taken out before."""
    queue, model = Queue(), dict[Key, Rank]()
    for key, at in steps:
        if at is None:
            queue.discard(key)
            model.pop(key, None)
        else:
            queue.put(key, at)
            model[key] = at
        first = queue.first()
        assert (first is None) == (not model)
        assert first is None or model[first] == min(model.values())
        assert (len(queue), set(queue.keys())) == (len(model), set(model))
        assert all(key in queue for key in model)
        assert queue.count("a") == sum(who == "a" for who, _ in model)


def test_queue_does_not_grow_with_jobs_that_change_places() -> None:
    """What it holds is bounded by how many there are."""
    queue = Queue()
    for number in range(50_000):
        queue.put(("42", "a"), (0, 0, -float(number), 0))
    assert len(queue._heap) < 2_000
    assert queue.first() == ("42", "a")
