"""
A process that writes into an outbox until it is killed.

Started by `test_killed` with the outbox's directory; prints the number and the `ce_id`
of each row right after its commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.outbox.making import number_of, numbered, opened


_PARTITIONS = 3


def main() -> None:
    """Write, in commits of many sizes, and acknowledge the first three."""
    with opened(Path(sys.argv[1]), keep_acked_seconds=0.0) as outbox:
        outbox.open_topic("jobs", _PARTITIONS, None)
        outbox.continue_behind("jobs", dict.fromkeys(range(_PARTITIONS), (0, 0, ())))
        acknowledged = {
            state.partition: state.last_sequence for state in outbox.states("jobs")
        }
        number, count = int(sys.argv[2]), 0
        is_first = not any(acknowledged.values())
        while True:
            for size in (1, 40, 3, 700):
                outbox.offer(numbered(number, size, size=300))
                number += size
                placed = outbox.commit()
                lines = [
                    f"{number_of(row)} {row.ce_id} {partition} {row.sequence}\n"
                    for _, partition, rows in placed
                    for row in rows
                ]
                sys.stdout.write("".join(lines))
                sys.stdout.flush()
                count += 1
                if not is_first or count > _PARTITIONS:
                    continue
                for topic, partition, rows in placed:
                    first, last = rows[0].sequence, rows[-1].sequence
                    outbox.acknowledge(topic, partition, first, last, first, 10)
                # It writes what was acknowledged.
                outbox.states("jobs")


if __name__ == "__main__":
    main()
