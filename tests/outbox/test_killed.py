"""What was committed is there after kill -9, with its identity, and is remembered."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.outbox.making import number_of, open_jobs, read_all, source_of, stored


def _write_and_kill(
    path: Path, first: int, seconds: float, program: str = "writing"
) -> dict[int, list[str]]:
    """Let a process write for a while; give what it said was committed."""
    told = path.parent / f"told-{first}"
    with told.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.outbox.{program}", str(path), str(first)],
            stdout=output,
            cwd=Path(__file__).parents[2],
        )
        deadline = time.monotonic() + 20
        # Some hundred rows, however slow the machine.
        while told.stat().st_size < 20_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        process.kill()
        process.wait(10)
    # The last line may have been cut short.
    lines = [line.split() for line in told.read_text().split("\n")[:-1]]
    return {int(number): rest for number, *rest in lines}


def test_jobs_are_exact_after_kill_9(tmp_path: Path) -> None:
    """Killed again and again: they are what all committed events make of them."""
    path = tmp_path / "outbox"
    told: dict[int, list[str]] = {}
    for index, seconds in enumerate((0.2, 0.1, 0.0, 0.05)):
        told |= _write_and_kill(path, index * 10_000_000, seconds, "living")
        with stored(path / "outbox.sqlite3") as store:
            # What was committed at last may not have been told.
            for _, key, number, value in store._connection.execute(
                "SELECT position, key, received_at_us, value FROM rows"
            ):
                status = "done" if b'"done"' in value else "in_progress"
                told[number] = [key.decode(), status]
            jobs: dict[str, tuple[str, int]] = {}
            for number, (job, status) in sorted(told.items()):
                jobs.pop(job, None)
                if status != "done":
                    jobs[job] = (status, number)
            assert {
                job.request_id: (job.status, job.last_seen_us)
                for job in store.jobs.of(source_of(7))
            } == jobs
            whose = store.jobs.account(source_of(7))
            ended = {job for job, status in told.values() if status == "done"}
            assert all(store.jobs.has_ended(whose, job.encode()) for job in ended)
            assert len(store.jobs.ended) == len(ended)
    assert len(jobs) > 400
    assert len(told) > 2000


def test_committed_rows_outlive_kill_9(tmp_path: Path) -> None:
    """Killed in the middle of writing, twice: no row lost, no identity used again."""
    path = tmp_path / "outbox"
    told: dict[int, list[str]] = {}
    for index, seconds in enumerate((0.3, 0.15, 0.05)):
        told |= _write_and_kill(path, index * 10_000_000, seconds)
    assert len(told) > 1000
    identities = [ce_id for ce_id, _, _ in told.values()]
    assert len(set(identities)) == len(identities)
    assert len({ce_id.split("-")[0] for ce_id in identities}) == 3

    with stored(path / "outbox.sqlite3") as store:
        open_jobs(store, 3)
        kept = {}
        for state in store.lane_states():
            rows = read_all(store, state.partition)
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
