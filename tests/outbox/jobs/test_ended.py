"""Which jobs have ended is remembered for a day, over restarts, within bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from bridge.outbox.jobs.ended import DIGEST_BYTES, Ended
from bridge.outbox.jobs.in_flight import Jobs
from bridge.outbox.jobs.order import Order
from bridge.outbox.opening import Opened, open_outbox

from bridge.outbox.statistics import OutboxStatistics
from bridge.outbox.store import Store
from tests.outbox.making import PLENTY_BYTES, event, source_of


_DAY_SECONDS = 86_400.0


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _digests(count: int) -> list[bytes]:
    return [os.urandom(DIGEST_BYTES) for _ in range(count)]


def _known(ended: Ended, digests: list[bytes]) -> list[bool]:
    return [digest in ended for digest in digests]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file stands."""
    return tmp_path / "outbox.sqlite3"


def _open(path: Path, ended: Ended) -> Opened:
    return open_outbox(path, PLENTY_BYTES, Order(Jobs(ended=ended)))


def _end(store: Store, *names: str) -> None:
    with store.transaction():
        store.append([event(name, "done") for name in names])


def _write(store: Store) -> None:
    with store.transaction():
        store.job_table.write()


def test_an_end_is_known_for_as_long_as_it_should_be() -> None:
    """Not for less, and for a hundredth more at most."""
    clock = _Clock()
    ended = Ended(keep_seconds=1000.0, clock=clock)
    first, second = _digests(2)
    ended.add(first)
    clock.now += 11
    ended.add(second)
    for now, known in (
        (1999.0, [True, True]),
        (2000.5, [False, True]),
        (2010.0, [False, True]),
        (2012.0, [False, False]),
    ):
        clock.now = now
        ended.expire()
        assert _known(ended, [first, second]) == known
    assert len(ended) == 0


def test_too_many_ends_push_out_the_oldest() -> None:
    """A hundredth more than must, and it is counted."""
    statistics = OutboxStatistics()
    ended = Ended(1000, _DAY_SECONDS, statistics)
    digests = _digests(3000)
    for digest in digests:
        ended.add(digest)
        assert 990 < len(ended) <= 1000 or digest in digests[:1000]
    assert not any(_known(ended, digests[:2000]))
    assert all(_known(ended, digests[2010:]))
    assert statistics.forgotten_ends == 3000 - len(ended)
    # What no file has is bounded as well.
    assert ended.unwritten == b"".join(digests[-len(ended) :])


@pytest.mark.parametrize("jump_seconds", [-10 * _DAY_SECONDS, 10 * _DAY_SECONDS])
def test_a_clock_that_is_set_makes_nothing_forgotten_while_it_runs(
    path: Path, jump_seconds: float
) -> None:
    """A jump shortens nothing; a restart believes the clock, but no time to come."""
    clock = _Clock()
    opened = _open(path, Ended(keep_seconds=1000.0, clock=clock))
    store, whose = opened.store, opened.store.jobs.account(source_of(7))
    now_ns = time.time_ns()
    _end(store, "a")
    _write(store)
    with patch("time.time_ns", return_value=now_ns + int(jump_seconds * 1e9)):
        store.jobs.expire(time.time_ns() // 1000)
        _end(store, "b")
        _write(store)
        assert store.jobs.has_ended(whose, b"a")
    store.close()
    # The clock is right again.
    ended = Ended(keep_seconds=1000.0, clock=clock)
    store = _open(path, ended).store
    whose = store.jobs.account(source_of(7))
    assert store.jobs.has_ended(whose, b"a")
    # What ended long ago for all that the file says is forgotten, in its turn.
    clock.now += 1001
    store.jobs.expire(0)
    assert len(ended) == 0
    store.close()
