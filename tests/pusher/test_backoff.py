"""Waits between connections."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from bridge.pusher.close_codes import Action, Backoff


def _backoff(seed: int = 1, spread_seconds: float = 0.0) -> Backoff:
    return Backoff(random.Random(seed), spread_seconds)


def _dials(action: Action, seconds: float, seed: int) -> list[float]:
    """Dial a server that ends each connection at once with this action."""
    backoff, now, dials = _backoff(seed), 0.0, []
    while now < seconds:
        dials.append(now)
        now += backoff.delay(action, outage_seconds=now)
    return dials


@pytest.mark.parametrize("seed", range(20))
def test_row_14_no_ten_seconds_see_more_than_ten_connects(seed: int) -> None:
    """Whatever the jitter, a server that always closes with 4200 isn't hammered."""
    dials = _dials(Action.RETRY_NOW, 120.0, seed)
    for index, dial in enumerate(dials):
        assert sum(1 for other in dials[index:] if other < dial + 10) <= 10


@pytest.mark.parametrize("seed", range(20))
def test_waits_are_short_for_half_a_minute_and_then_grow_to_the_cap(seed: int) -> None:
    """A server that is back within 30 s is found within 2 s."""
    waits = [
        (earlier, later - earlier)
        for earlier, later in pairwise(_dials(Action.RETRY_NOW, 600.0, seed))
    ]
    assert max(wait for at, wait in waits if at < 30) <= 2
    late = [wait for at, wait in waits if at > 120]
    assert min(late) >= 22.5
    assert max(late) <= 30
    assert any(2 < wait < 22.5 for at, wait in waits if 30 <= at <= 120)


def test_row_16_over_capacity_waits_a_second_or_more() -> None:
    """After 4100-4199 no wait is below a second, the first included."""
    backoff = _backoff()
    for seconds in range(50):
        assert backoff.delay(Action.RETRY_LATER, outage_seconds=seconds) >= 1


def test_row_28_retry_after_is_honored_and_spread() -> None:
    """Many accounts with the same answer don't come back in the same moment."""
    waits = [
        _backoff(seed, spread_seconds=2.0).delay(
            Action.RETRY_LATER, outage_seconds=0, retry_after_seconds=60
        )
        for seed in range(200)
    ]
    assert min(waits) >= 60
    assert max(waits) <= 62
    assert max(waits) - min(waits) > 1.8
