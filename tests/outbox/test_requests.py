"""Every request comes to an end."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest

from bridge.errors import OutboxFullError
from bridge.outbox.requests import Requests
from bridge.outbox.room import Room
from tests.outbox.making import stored


def test_answers_in_order_once_told_to(tmp_path: Path) -> None:
    """Results are handed out after `answer`, not while they are worked out."""
    requests = Requests()
    futures = [requests.put(lambda _, n=n: n) for n in range(3)]  # type: ignore[misc]
    with stored(tmp_path / "x") as store:
        results = requests.work(store)
    assert not any(future.done() for future in futures)
    assert requests
    requests.answer(results)
    assert [future.result(0) for future in futures] == [0, 1, 2]
    assert not requests


def test_passes_over_whoever_gave_up(tmp_path: Path) -> None:
    """A cancelled request is not worked on, and its answer hurts nobody."""
    requests = Requests()
    worked: list[str] = []
    early = requests.put(lambda _: worked.append("early"))
    late = requests.put(lambda _: worked.append("late"))
    early.cancel()
    with stored(tmp_path / "x") as store:
        results = requests.work(store)
    late.cancel()
    last = requests.put(lambda _: None)
    requests.answer(results)
    assert worked == ["late"]
    assert not last.done()


class _Room:
    """Has room for so much."""

    reason = "outbox.max_bytes is 1"

    def __init__(self, left: int, step_bytes: int = 100) -> None:
        self.left = left
        self.step_bytes = step_bytes

    def take(self, weight: int) -> bool:
        fits = weight <= self.left
        self.left -= weight if fits else 0
        return fits


def test_what_finds_no_room_fails_and_the_rest_is_worked_on(tmp_path: Path) -> None:
    """In the order in which they came, and each is told of once."""
    requests, given_up = Requests(), list[int]()
    futures = [
        requests.put(
            lambda _, w=weight: w,  # type: ignore[misc]
            weight=weight,
            give_up=lambda w=weight: given_up.append(w),  # type: ignore[misc]
        )
        for weight in (3, 50, 4, 60, 5)
    ]
    futures[2].cancel()
    assert requests.admit(2, cast("Room", _Room(12))) == 2
    assert len(requests) == 4
    assert str(futures[1].exception(0)) == _Room.reason
    with stored(tmp_path / "x") as store:
        requests.answer(requests.work(store, 2))
    assert futures[0].result(0) == 3
    assert given_up == [50, 4]
    requests.refuse(2, OutboxFullError("why"))
    assert [str(future.exception(0)) for future in futures[3:]] == ["why"] * 2
    assert given_up == [50, 4, 60, 5]


@pytest.mark.parametrize(
    ("most", "left", "step_bytes", "count"),
    [(9, 99, 99, 3), (2, 99, 99, 2), (9, 15, 99, 1), (9, 99, 11, 2), (9, 9, 99, 0)],
)
def test_what_waits_for_room_or_a_mark_keeps_those_behind_it(
    most: int, left: int, step_bytes: int, count: int
) -> None:
    """Nothing overtakes it, and nothing fails."""
    requests = Requests()
    futures = [
        requests.put(lambda _: None, weight=10, mark=mark) for mark in (1, 2, 2, 7, 1)
    ]
    room = cast("Room", _Room(left, step_bytes))
    assert requests.fitting(most, room, lambda mark: mark < 3) == count
    assert not any(future.done() for future in futures)


def test_cancels_what_waits_and_what_comes_too_late() -> None:
    """After `close` nobody waits for ever."""
    requests = Requests()
    waiting = requests.put(lambda _: None)
    requests.close()
    assert waiting.cancelled()
    assert requests.put(lambda _: None).cancelled()


def test_a_request_that_races_with_the_end_is_cancelled() -> None:
    """Whichever way the threads take turns, each future comes to an end."""
    for _ in range(200):
        requests = Requests()
        futures: list[Future[None]] = []

        def ask(
            requests: Requests = requests, into: list[Future[None]] = futures
        ) -> None:
            into.extend(requests.put(lambda _: None) for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        requests.close()
        for thread in threads:
            thread.join()
        assert len(futures) == 40
        assert all(future.cancelled() for future in futures)


def test_an_error_in_the_work_reaches_the_thread(tmp_path: Path) -> None:
    """A mistake in the work isn't swallowed; the request is cancelled at the end."""
    requests = Requests()
    future = requests.put(lambda _: 1 // 0)
    with stored(tmp_path / "x") as store, pytest.raises(ZeroDivisionError):
        requests.work(store)
    requests.close()
    assert future.cancelled()
