"""What `figures` promises, on numbers small enough to count by hand."""

from __future__ import annotations

import pytest

from benchmarks.figures import Spread, percentile, spread


def test_spread_is_median_and_extremes() -> None:
    """The order of the values doesn't matter."""
    assert spread([5.0, 1.0, 3.0]) == Spread(median=3.0, lowest=1.0, highest=5.0)


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 50.0), (99, 99.0), (99.9, 100.0), (100, 100.0)]
)
def test_percentile_is_a_value_that_was_there(percent: float, value: float) -> None:
    """Of the numbers from 1 to 100 each percentile is itself, rounded up."""
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, percent) == value


def test_percentile_of_one_value_is_that_value() -> None:
    """A single value is every percentile."""
    assert percentile([7.0], 50) == percentile([7.0], 99.9) == 7.0
