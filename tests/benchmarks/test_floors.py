"""What `floors` promises: each step is timed, and none for nothing."""

from __future__ import annotations

from benchmarks import floors


def test_each_step_takes_some_time() -> None:
    """Once is enough to see that each works, and takes neither nothing nor hours."""
    found = floors.measure(rounds=1)

    assert list(found) == [floors.DECODE, floors.ROW, floors.RECORD, floors.HANDOVER]
    assert all(0.01 < us < 10_000 for us in found.values())
