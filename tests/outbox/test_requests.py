"""Every request comes to an end."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from bridge.outbox.requests import Requests
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
