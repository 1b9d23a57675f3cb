"""What was committed is there after kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.outbox.making import number_of, opened, read_all


def _write_and_kill(path: Path, first: int, rows: int) -> dict[int, list[str]]:
    """Let a process write so many rows at least; give what it said was committed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.outbox.writing", str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rows)]
        process.kill()
        lines += process.stdout.readlines()
    # The last line may have been cut short.
    told = [line.split() for line in lines if line.endswith("\n")]
    return {int(number): rest for number, *rest in told}


def test_committed_rows_outlive_kill_9(tmp_path: Path) -> None:
    """Killed three times while it writes: no row lost, no identity used again."""
    path = tmp_path / "outbox"
    told: dict[int, list[str]] = {}
    for index, least in enumerate((2000, 900, 500)):
        told |= _write_and_kill(path, index * 10_000_000, least)
    assert len(told) > 1000
    identities = [ce_id for ce_id, _, _ in told.values()]
    assert len(set(identities)) == len(identities)
    assert len({ce_id.split("-")[0] for ce_id in identities}) == 3

    with opened(path) as outbox:
        kept = {}
        for state in outbox.states("jobs"):
            rows = read_all(outbox, state.partition)
            # Rows that were acknowledged are gone; what is left is dense.
            assert [row.sequence for row in rows] == list(
                range(state.last_sequence - len(rows) + 1, state.last_sequence + 1)
            )
            numbers = [number_of(row) for row in rows]
            assert numbers == sorted(numbers)
            for row in rows:
                place = [row.ce_id, str(state.partition), str(row.sequence)]
                kept[number_of(row)] = place
            for number, place in told.items():
                if place[1] == str(state.partition):
                    is_gone = int(place[2]) <= state.acknowledged_sequence
                    assert kept.get(number) == place or is_gone
        assert len({place[0] for place in kept.values()}) == len(kept)
        # The first process acknowledged its first commits, of 1, 40 and 3 rows.
        assert len(told) - 44 <= len([n for n in kept if n in told]) < len(told)
