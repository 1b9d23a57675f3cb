"""
A process that takes webhooks and lets some of them go, until somebody kills it.

Started by `test_synced` with the outbox's directory and a first number; prints each
webhook once it is taken, and once it has left.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.outbox.healing import delivery, open_jobs
from tests.outbox.making import running


def main() -> None:
    """Take some at once and release the first ones, again and again."""
    dice = random.Random(sys.argv[2])
    number = int(sys.argv[2])
    with running(Path(sys.argv[1])) as outbox:
        open_jobs(outbox)
        while True:
            count = dice.choice((1, 3, 40))
            numbers = range(number, number + count)
            number += count
            futures = [
                outbox.take(delivery(f"{one}", f"{one}", due_us=one)) for one in numbers
            ]
            for one, future in zip(numbers, futures, strict=True):
                assert future.result(10)
                _tell("taken", one)
            held = outbox.held(count - 1).result(10)
            released = [outbox.release(one.place, ()) for one in held]
            for webhook, future in zip(held, released, strict=True):
                assert future.result(10)
                assert webhook.record.key is not None
                _tell("left", int(webhook.record.key))


def _tell(what: str, number: int) -> None:
    sys.stdout.write(f"{what} {number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
