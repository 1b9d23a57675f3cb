"""How dead letters look at different widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bridge.consumer.dead_letters import Choice, Tally, show_reasons, show_tally
from bridge.consumer.dead_letters.judge import Outcome
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


@pytest.mark.parametrize(
    ("is_dry", "words"),
    [
        (False, "2 of 5 dead letters on jobs.dlq replayed to jobs."),
        (True, "2 of 5 dead letters on jobs.dlq would be replayed to jobs. Nothing"),
    ],
)
def test_a_tally_says_what_was_done_or_would_be(words: str, *, is_dry: bool) -> None:
    """Outcomes that no letter has are left out."""
    tally = Tally()
    tally.outcomes.update({Outcome.REPLAYED: 2, Outcome.STILL_INVALID: 3})
    tally.invalid.update({"not_json": 1, "too_deep": 2})
    out = io.StringIO()
    choice = Choice("jobs.dlq", "jobs")
    show_tally(choice, tally, Console(file=out, width=160), is_dry=is_dry)
    text = out.getvalue()
    assert words in text
    assert "2 too_deep, 1 not_json" in text
    assert "overtaken" not in text
