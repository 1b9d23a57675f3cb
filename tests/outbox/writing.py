"""
A process that writes into an outbox until somebody kills it.

Started by `test_killed` with the outbox's directory; prints the number and the
`ce_id` of each row right after its commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bridge.outbox.store import Placed
from tests.outbox.making import fresh, number_of, numbered, running, spread


_COMMITS_ACKNOWLEDGED = 3


def main() -> None:
    """Write, in commits of many sizes, and acknowledge the first ones."""
    with running(Path(sys.argv[1]), keep_acked_seconds=0.0) as outbox:
        count = 0

        def told(placed: list[Placed]) -> None:
            nonlocal count
            lines = [
                f"{number_of(row)} {row.ce_id} {partition} {row.sequence}\n"
                for _, partition, rows in placed
                for row in rows
            ]
            sys.stdout.write("".join(lines))
            sys.stdout.flush()
            count += 1
            for topic, partition, rows in placed:
                first, last = rows[0].sequence, rows[-1].sequence
                if (
                    count <= _COMMITS_ACKNOWLEDGED
                    and first == acknowledged[partition] + 1
                ):
                    acknowledged[partition] = last
                    outbox.acknowledge(topic, partition, first, last, first, 10)

        acknowledged = dict.fromkeys(range(3), 0)
        outbox.subscribe(told, lambda _: None, lambda: None)
        outbox.open_topic("jobs", spread(3), fresh(3), None).result(10)
        number = int(sys.argv[2])
        while True:
            for size in (1, 40, 3, 700):
                outbox.offer(numbered(number, size, size=300))
                number += size
                while not outbox.drained:
                    pass


if __name__ == "__main__":
    main()
