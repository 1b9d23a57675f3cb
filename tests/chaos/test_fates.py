"""The reckoning of what is known beside the bridge."""

from __future__ import annotations

import math

import pytest

from tests.chaos.fates import Limits, Span, after_good_time


_INF = math.inf


@pytest.mark.parametrize(
    ("begun", "seconds", "away", "until"),
    [
        (100, 60, [], 160),
        (100, 60, [(90, 99)], 160),
        (100, 60, [(90, 130)], 190),
        (100, 60, [(120, 130)], 170),
        (100, 60, [(150, 155), (120, 130)], 175),
        (100, 60, [(120, 140), (130, 150)], 190),
        (100, 60, [(160, 170)], 160),
        (100, 0, [(90, 130)], 130),
        (100, 0, [(110, 130)], 100),
        (100, 60, [(-_INF, 90)], 160),
        (100, 60, [(-_INF, 110)], 170),
        (100, 60, [(120, _INF)], _INF),
    ],
)
def test_good_time_is_that_in_which_nothing_was_away(
    begun: float, seconds: float, away: list[tuple[float, float]], until: float
) -> None:
    """What was away counts once, however many were away, and in any order."""
    spans = [Span(*each) for each in away]
    assert after_good_time(begun, seconds, spans) == until


def test_a_reserve_is_left_of_minute_and_day() -> None:
    """A quarter of Basic's calls is 12 a minute and 50 a day; Premium has no day."""
    assert (Limits(50, 200).minute, Limits(50, 200).day) == (37, 150)
    assert (Limits(300, None).minute, Limits(300, None).day) == (225, _INF)
