"""The ground truth of a soak: what was emitted, when, and what soketi said to it.

Owns the events' texts and the memory of them. An event counts as emitted when soketi
took it; one whose request broke while it was under way may have been emitted, and is
kept apart. What became of the events is judged by `soak_verdict`.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import httpx  # noqa: TID251 - the publisher's errors; no part of the bridge raises them
import trio

from tests.kit.publisher import Event, Publisher, SoketiError


__all__ = ["Emission", "Ground", "GroundLoad"]

_NAME = "request.status.updated"

# Pusher's HTTP API takes ten events a call; each is another job's.
_SIDE_BY_SIDE = 10

_STEPS = (2, 40)

# dryAPI never pushes `error`: a job that fails is just not heard of again.
_ENDLESS_SHARE = 0.08

# Small ones, and such that fill a socket's buffers while a process stands still.
_PREVIEW_SHARE = 0.03
_PREVIEW_BYTES = (500, 20_000)


class Emission(NamedTuple):
    """
    One event that was published; times are seconds since the epoch.

    Attributes:
        number: Its number; no other event of the run has it.
        key: Its job's `request_id`.
        begun: When its request went out: soketi sent it to its subscribers later.
        ended: When soketi's answer came: soketi sent it earlier. For one that may
            have been emitted, when the request broke.
    """

    number: int
    key: str
    begun: float
    ended: float


class Ground:
    """
    What was published.

    Attributes:
        emitted: What soketi took.
        unsure: What soketi may have taken.
        refused: How many events it refused, or wasn't there for.
    """

    def __init__(self) -> None:
        self.emitted: list[Emission] = []
        self.unsure: list[Emission] = []
        self.refused = 0


class _Job:
    """One job's events, each made when it is asked for."""

    def __init__(self, random: Random) -> None:
        self.key = str(uuid.UUID(int=random.getrandbits(128), version=4))
        self._fields = self._steps(random)

    @staticmethod
    def _steps(random: Random) -> Iterator[dict[str, object]]:
        steps = random.randint(*_STEPS)
        yield {"status": "processing", "preview": None, "progress": "0.00"}
        for step in range(1, steps):
            preview = None
            if random.random() < _PREVIEW_SHARE:
                noise = random.randbytes(random.randint(*_PREVIEW_BYTES) * 3 // 4)
                text = base64.b64encode(noise).decode()
                preview = f"data:image/jpeg;base64,{text}"
            progress = f"{100 * step / steps:.2f}"
            yield {"status": "in_progress", "preview": preview, "progress": progress}
        if random.random() >= _ENDLESS_SHARE:
            result_url = "https://example.org/r.png"
            yield {"status": "done", "result_url": result_url, "progress": "100.00"}

    def next_text(self, number: int) -> str | None:
        """Give the next event's text; None after the last."""
        fields = next(self._fields, None)
        if fields is None:
            return None
        whole = {"preview": None, "result_url": None, **fields}
        own = {"request_id": self.key, "number": number, "emitted_at": time.time()}
        return json.dumps(own | whole)


class GroundLoad:
    """
    Ten jobs side by side, at a steady rate, whatever becomes of soketi.

    Args:
        publisher: Where to publish.
        channel: The account's channel.
        rate: Events a second.
        random: What decides on jobs.

    Attributes:
        ground: What was published.
    """

    def __init__(
        self, publisher: Publisher, channel: str, rate: float, random: Random
    ) -> None:
        self._publisher = publisher
        self._channel = channel
        self._pause_seconds = _SIDE_BY_SIDE / rate
        self._random = random
        self._jobs = [self._new_job() for _ in range(_SIDE_BY_SIDE)]
        self._next_number = 0
        self._stopped = False
        self._ended = trio.Event()
        self.ground = Ground()

    async def run(self) -> None:
        """Publish until `stop`."""
        due = trio.current_time()
        while not self._stopped:
            await self._publish(dict(self._step()))
            # After a stall it goes on at the rate, and doesn't catch up.
            due = max(due + self._pause_seconds, trio.current_time())
            await trio.sleep_until(due)
        self._ended.set()

    async def stop(self) -> None:
        """Let `run` end when its present batch has its answer."""
        self._stopped = True
        await self._ended.wait()

    def _new_job(self) -> _Job:
        return _Job(Random(self._random.getrandbits(64)))

    def _step(self) -> Iterator[tuple[int, tuple[str, str]]]:
        """Take one step of each job; give each number's job and text."""
        for slot, job in enumerate(self._jobs):
            number = self._next_number
            self._next_number += 1
            text = job.next_text(number)
            while text is None:
                job = self._jobs[slot] = self._new_job()  # noqa: PLW2901 - its successor
                text = job.next_text(number)
            yield number, (job.key, text)

    async def _publish(self, step: dict[int, tuple[str, str]]) -> None:
        events = [Event(self._channel, _NAME, text) for _, text in step.values()]
        begun = time.time()
        try:
            await self._publisher.publish_batch(events)
        except (SoketiError, httpx.ConnectError, httpx.ConnectTimeout):
            # It said no, or nobody was there to hear it.
            self.ground.refused += len(events)
            return
        except httpx.TransportError:
            kept = self.ground.unsure
            # soketi may take it after later ones, so these jobs have no later ones.
            self._jobs = [self._new_job() for _ in self._jobs]
        else:
            kept = self.ground.emitted
        ended = time.time()
        kept += [Emission(each, key, begun, ended) for each, (key, _) in step.items()]
