"""Each receiver takes all that is sent, and the bridge's cost is held to a target."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.receivers import BRIDGE, RECEIVERS, WSPROTO, Take
from benchmarks.receiving import Load, ReceivingError, measure
from benchmarks.receiving_report import Reception, describe_receiving
from benchmarks.traffic import Traffic


_LOADS = [
    Load("small", Traffic(2_000)),
    Load("large", Traffic(20, preview_bytes=90_000)),
]


def test_every_receiver_is_timed_in_each_turn() -> None:
    """All of them get all characters of all events, or there would be an error."""
    found = measure(2, _LOADS)

    assert [(one.load, one.receiver) for one in found] == [
        (load.name, name) for load in _LOADS for name in RECEIVERS
    ]
    assert all(len(one.us) == 2 and min(one.us) > 0 for one in found)
    assert {one.message_bytes for one in found} == {220, 90_220}


def test_a_receiver_that_misses_something_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What didn't come must not count as fast."""

    @asynccontextmanager
    async def short(url: str) -> AsyncIterator[Take]:
        async with RECEIVERS[WSPROTO](url) as take:

            async def less(events: int) -> int:
                return await take(events) - 1

            yield less

    monkeypatch.setattr("benchmarks.receiving.RECEIVERS", {BRIDGE: short})

    with pytest.raises(ReceivingError, match=r"bridge got 21,999 .* of 22,000"):
        measure(1, [Load("small", Traffic(100))])


@pytest.mark.parametrize(
    ("us", "verdict"),
    [((13.0, 26.0, 90.0), "1.30, met"), ((13.1, 26.2, 10.0), "1.31, missed")],
)
def test_the_median_of_the_turns_ratios_is_held_against_the_target(
    us: tuple[float, ...], verdict: str
) -> None:
    """A slow turn is slow for both, so each is held against its own."""
    floor = Reception("small", WSPROTO, 220, (10.0, 20.0, 30.0))

    text = "\n".join(describe_receiving([Reception("small", BRIDGE, 220, us), floor]))

    assert f"at most 1.3 times {WSPROTO}: {verdict}" in text
    assert "3 interleaved turns" in text
    assert "220 bytes" in text
    assert describe_receiving([]) == []
