"""How dead letters look at different widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bridge.consumer.dead_letters import show_reasons
from bridge.consumer.dead_letters.overview import Example, Reason


_MESSAGE = "progress is an array, not a string, a number or null"
_REASON = Reason(
    "invalid_field",
    3,
    1_769_860_800_000,
    1_769_860_801_000,
    Example("jobs.dlq-11@123456", "123e4567-e89b-12d3-a456-426614174000", _MESSAGE),
)


@pytest.mark.parametrize("width", [40, 80, 160])
def test_an_example_is_whole_at_any_width(width: int) -> None:
    """Where a column would tear it apart it stands below the table."""
    out = io.StringIO()
    show_reasons("jobs.dlq", [_REASON], Console(file=out, width=width))
    words = " ".join(out.getvalue().split())
    where = "jobs.dlq-11@123456 123e4567-e89b-12d3-a456-426614174000"
    assert f"{where}: {_MESSAGE}" in words
    if width < 110:
        assert f"the last invalid_field: {where}" in words
