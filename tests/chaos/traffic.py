"""A steady load whose events say which they are and when they were emitted.

Owns the events' texts and their reading back. What becomes of them is judged by
`verdict`.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import trio

from tests.kit.publisher import Event, Publisher


__all__ = ["NumberedEvent", "SteadyLoad", "read_event"]

_NAME = "request.status.updated"

# Pusher's HTTP API takes ten events a call; each is another job's.
_SIDE_BY_SIDE = 10

# How long jobs are, how often an event has a preview, and how large it is: small
# ones and such that fill a batch, and a mean of 1 KB an event.
_STEPS = (2, 40)
_PREVIEW_SHARE = 0.06
_PREVIEW_BYTES = (500, 30_000)


@dataclass(frozen=True)
class NumberedEvent:
    """
    Which event a record is.

    Attributes:
        key: Its job's `request_id`.
        number: Its place in its job, from 0.
        emitted_at: When it was emitted, in seconds since the epoch.
    """

    key: str
    number: int
    emitted_at: float


def read_event(value: bytes) -> NumberedEvent:
    """Tell which event a record's value is."""
    fields = json.loads(value)
    return NumberedEvent(fields["request_id"], fields["number"], fields["emitted_at"])


def _job(random: Random) -> Iterator[str]:
    """Give the texts of a job's events; each is made when it is asked for."""
    request_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
    steps = random.randint(*_STEPS)
    for number in range(steps + 1):
        status = "done" if number == steps else "in_progress"
        preview = None
        if number < steps and random.random() < _PREVIEW_SHARE:
            noise = random.randbytes(random.randint(*_PREVIEW_BYTES) * 3 // 4)
            preview = f"data:image/jpeg;base64,{base64.b64encode(noise).decode()}"
        yield json.dumps(
            {
                "request_id": request_id,
                "status": status,
                "preview": preview,
                "result_url": "https://example.org/r.png" if number == steps else None,
                "progress": f"{100 * number / steps:.2f}",
                "number": number,
                "emitted_at": time.time(),
            }
        )


def _jobs(random: Random) -> Iterator[str]:
    """Give the texts of one job after the other, without end."""
    while True:
        yield from _job(random)


class SteadyLoad:
    """
    Ten jobs side by side, at a steady rate.

    Args:
        publisher: Where to publish.
        channel: The account's channel.
        rate: Events a second.
        random: What decides on lengths and previews.

    Attributes:
        emitted: How many events soketi has accepted.
    """

    def __init__(
        self, publisher: Publisher, channel: str, rate: float, random: Random
    ) -> None:
        self._publisher = publisher
        self._channel = channel
        self._pause_seconds = _SIDE_BY_SIDE / rate
        self._slots = [
            _jobs(Random(random.getrandbits(64))) for _ in range(_SIDE_BY_SIDE)
        ]
        self._stopped = False
        self._ended = trio.Event()
        self.emitted = 0

    async def run(self) -> None:
        """Emit until `stop`."""
        due = trio.current_time()
        while not self._stopped:
            texts = [next(slot) for slot in self._slots]
            await self._publisher.publish_batch(
                [Event(self._channel, _NAME, text) for text in texts]
            )
            self.emitted += len(texts)
            # After a stall it goes on at the rate, and doesn't catch up.
            due = max(due + self._pause_seconds, trio.current_time())
            await trio.sleep_until(due)
        self._ended.set()

    async def stop(self) -> None:
        """Let `run` end when its present batch is accepted."""
        self._stopped = True
        await self._ended.wait()
