"""What `make bench-sessions` promises: seconds counted rightly, one account's share."""

from __future__ import annotations

import pytest

from benchmarks.many_sessions import Rest, Result, Return, Stream, most_in_a_second
from benchmarks.sessions import report
from tests.benchmarks.runs import MACHINE


def _result(
    accounts: int, memory_kib: float, cpu_seconds: float, stream: Stream | None = None
) -> Result:
    rest = Rest(
        accounts=accounts,
        seconds=60.0,
        start_seconds=1.0,
        subscribed_seconds=2.0,
        connects_a_second=accounts,
        memory_bytes=memory_kib * 1024,
        cpu_seconds=cpu_seconds,
        others_cores=0.0,
    )
    return Result(rest, stream, Return(1.5, accounts))


@pytest.mark.parametrize(
    ("moments", "most"),
    [([], 0), ([5.0], 1), ([3.1, 0.0, 0.5, 0.9, 1.0, 3.0], 3), ([0.9, 1.1, 1.89], 3)],
)
def test_connects_of_any_second_are_counted(moments: list[float], most: int) -> None:
    """Not those of a clock's seconds: the window begins wherever most lie in it."""
    assert most_in_a_second(moments) == most


def test_one_account_is_the_difference_of_medians_dealt_out() -> None:
    """A run that went astray changes nothing, nor does what a lone bridge needs."""
    results = [
        *(
            _result(1, memory, cpu)
            for memory, cpu in ((900, 0.5), (1000, 0.6), (9000, 9))
        ),
        *(
            _result(201, memory, cpu)
            for memory, cpu in ((5000, 1.8), (1, 0), (5100, 2.0))
        ),
    ]

    text = report(MACHINE, results)

    assert (
        "Each idle account more: 20 KiB of memory and 100 us of CPU a second." in text
    )
    assert "3 interleaved runs of 60 s" in text


def test_what_went_wrong_with_events_is_named() -> None:
    """The flaws of each run stand below the sentence that counts the good ones."""
    streams = [
        Stream(200, 1000, 500.0, ()),
        Stream(200, 1000, 600.0, ("account-007, job x: 9 of 10",)),
    ]

    text = report(MACHINE, [_result(200, 1, 1, stream) for stream in streams])

    assert "under its account in 1 of 2 runs" in text
    assert "- account-007, job x: 9 of 10" in text
