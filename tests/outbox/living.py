"""
A process that lets jobs begin, go on and end until somebody kills it.

Started by `test_killed` with the outbox's directory and a first number; prints each
event right after its commit: its number, job and status.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bridge.outbox.jobs import table as job_table
from bridge.outbox.store import Placed
from bridge.record import Record
from tests.outbox.making import event, fresh, running, spread


_AT_ONCE = 200
_FOR_EVER = 1e11

_status = msgspec.json.Decoder(dict[str, str | None]).decode


def main() -> None:
    """Write, in commits of many sizes; most rows are acknowledged and deleted."""
    # The table is written all the time, and seldom to its end.
    job_table._INTERVAL_SECONDS = 0.01
    job_table._JOBS_A_COMMIT = 30
    limits = {"keep_acked_seconds": 0.0, "keep_jobs_seconds": _FOR_EVER}
    with running(Path(sys.argv[1]), **limits) as outbox:
        acknowledged = dict.fromkeys(range(3), 0)

        def told(placed: list[Placed]) -> None:
            for topic, partition, rows in placed:
                for row in rows:
                    value = _status(row.value)
                    job, status = value["request_id"], value["status"]
                    sys.stdout.write(f"{row.received_at_us} {job} {status}\n")
                first, last = rows[0].sequence, rows[-1].sequence
                if first == acknowledged[partition] + 1 and random.random() < 0.9:
                    acknowledged[partition] = last
                    outbox.acknowledge(topic, partition, first, last, first, 10)
            sys.stdout.flush()

        outbox.subscribe(told, lambda _: None, lambda: None)
        first = int(sys.argv[2])
        events = _events(first)
        for size in (1, 40, 3, 700):
            outbox.offer([next(events) for _ in range(size)])
            while not outbox.drained:
                pass
        # These wait for their lane until now, and the next ones behind them.
        outbox.open_topic("jobs", spread(3), fresh(3), None).result(10)
        while True:
            outbox.offer([next(events) for _ in range(random.choice((1, 7, 300)))])
            while not outbox.drained:
                pass


def _events(number: int) -> Iterator[Record]:
    jobs = [f"{number}-{index}" for index in range(_AT_ONCE)]
    while True:
        number += 1
        place = random.randrange(_AT_ONCE)
        ends = random.random() < 0.2
        yield event(jobs[place], "done" if ends else "in_progress", number)
        if ends:
            jobs[place] = f"{number}"


if __name__ == "__main__":
    main()
