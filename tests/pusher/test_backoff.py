"""Waits between connects."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from bridge.pusher.backoff import Backoff
from bridge.pusher.closing import Verdict


def _backoff(seed: int = 1) -> Backoff:
    return Backoff(0.5, 30.0, random.Random(seed))


def _dials(verdict: Verdict, seconds: float, seed: int) -> list[float]:
    """Dial a server that ends each connection at once with this verdict."""
    backoff, now, dials = _backoff(seed), 0.0, []
    while now < seconds:
        backoff.connecting(now)
        dials.append(now)
        now += backoff.delay(verdict, now=now, outage_since=0.0)
    return dials


def test_the_first_retry_goes_out_at_once_and_the_next_does_not() -> None:
    """One retry is immediate; a stable connection earns the next."""
    backoff = _backoff()
    assert backoff.delay(Verdict.RETRY_NOW, now=0, outage_since=0) == 0
    assert backoff.delay(Verdict.RETRY_NOW, now=0, outage_since=0) > 0
    backoff.reset()
    assert backoff.delay(Verdict.RETRY_NOW, now=0, outage_since=0) == 0


@pytest.mark.parametrize("seed", range(20))
def test_row_14_no_ten_seconds_see_more_than_ten_connects(seed: int) -> None:
    """Whatever the chance, a server that always closes with 4200 is left in peace."""
    dials = _dials(Verdict.RETRY_NOW, 120.0, seed)
    for index, dial in enumerate(dials):
        assert sum(1 for other in dials[index:] if other < dial + 10) <= 10


@pytest.mark.parametrize("seed", range(20))
def test_waits_are_short_for_half_a_minute_and_then_grow_to_the_cap(seed: int) -> None:
    """A server that comes back within 30 s is found within 2 s."""
    waits = [
        (earlier, later - earlier)
        for earlier, later in pairwise(_dials(Verdict.RETRY_NOW, 600.0, seed))
    ]
    assert max(wait for at, wait in waits if at < 30) <= 2
    late = [wait for at, wait in waits if at > 120]
    assert min(late) >= 22.5
    assert max(late) <= 30
    grown = [wait for at, wait in waits if 30 <= at <= 120]
    assert any(2 < wait < 22.5 for wait in grown)


def test_row_16_over_capacity_waits_a_second_or_more() -> None:
    """After 4100-4199 no wait is below a second, the first included."""
    backoff = _backoff()
    for now in range(50):
        assert backoff.delay(Verdict.RETRY_LATER, now=now, outage_since=0) >= 1


def test_jitter_keeps_two_sessions_apart() -> None:
    """Different chances give different waits."""
    first, second = (
        [b.delay(Verdict.RETRY_LATER, now=99, outage_since=0) for _ in range(5)]
        for b in (_backoff(1), _backoff(2))
    )
    assert first != second


@pytest.mark.parametrize("verdict", [Verdict.RETRY_SLOWLY, Verdict.TERMINAL])
def test_what_a_person_must_change_is_tried_slowly(verdict: Verdict) -> None:
    """Such an end waits about half a minute from the first time on."""
    delay = _backoff().delay(verdict, now=0, outage_since=0)
    assert 22.5 <= delay <= 30


def test_a_burst_of_connects_waits_out_the_window() -> None:
    """After ten connects the eleventh waits until the first is ten seconds old."""
    backoff = _backoff()
    for moment in range(10):
        backoff.connecting(moment / 10)
    assert backoff.delay(Verdict.RETRY_NOW, now=1.0, outage_since=1.0) == 9.0
