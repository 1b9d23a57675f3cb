"""The numbered load: what was emitted, when, and what soketi answered.

An event counts as emitted when soketi took it. One whose request broke while it was
on its way may have been emitted, and is kept apart.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import httpx  # noqa: TID251 - the publisher's errors; no part of the bridge raises them
import trio

from tests.kit.publisher import Event, Publisher, SoketiError


# Pusher's HTTP API takes ten events a call; each is another job's.
_SIDE_BY_SIDE = 10

_STEPS = (2, 40)

# dryAPI never pushes `error`: a failed job just has no more events.
_ENDLESS_SHARE = 0.08

_LEAST_PREVIEW_BYTES = 500


class NumberedEvent(NamedTuple):
    """One event: its job, a number that no other event of the run has, and its time."""

    key: str
    number: int
    emitted_at: float


class Emission(NamedTuple):
    """One event that was published; times are seconds since the epoch."""

    event: NumberedEvent
    begun: float  # soketi sent it to its subscribers later
    ended: float  # soketi sent it earlier; or the request broke

    @property
    def number(self) -> int:
        """The event's number."""
        return self.event.number


@dataclass
class Ground:
    """What was published: what soketi took, and what it may have taken."""

    emitted: list[Emission] = field(default_factory=list)
    unsure: list[Emission] = field(default_factory=list)


def read_event(value: bytes) -> NumberedEvent:
    """Give the event that a record's value is."""
    fields = json.loads(value)
    return NumberedEvent(fields["request_id"], fields["number"], fields["emitted_at"])


class Load:
    """Ten jobs side by side, at a steady rate, whatever happens to soketi."""

    def __init__(
        self,
        publisher: Publisher,
        channel: str,
        rate: float,
        random: Random,
        previews: tuple[float, int],
    ) -> None:
        self._publisher = publisher
        self._channel = channel
        self._pause_seconds = _SIDE_BY_SIDE / rate
        self._random = random
        self._preview_share, self._most_preview_bytes = previews
        self._slots = [self._jobs() for _ in range(_SIDE_BY_SIDE)]
        self._next_number = 0
        self._stopped = False
        self._ended = trio.Event()
        self.ground = Ground()

    async def run(self) -> None:
        """Publish until `stop`."""
        due = trio.current_time()
        while not self._stopped:
            await self._publish([next(slot) for slot in self._slots])
            # After a stall it goes on at the rate, and doesn't catch up.
            due = max(due + self._pause_seconds, trio.current_time())
            await trio.sleep_until(due)
        self._ended.set()

    async def stop(self) -> None:
        """Let `run` end when its present batch has its answer."""
        self._stopped = True
        await self._ended.wait()

    async def _publish(self, step: list[tuple[NumberedEvent, str]]) -> None:
        name, begun = "request.status.updated", time.time()
        events = [Event(self._channel, name, text) for _, text in step]
        kept = self.ground.emitted
        try:
            await self._publisher.publish_batch(events)
        except (SoketiError, httpx.ConnectError, httpx.ConnectTimeout):
            return  # it refused, or did not run
        except httpx.TransportError:
            kept = self.ground.unsure
            # soketi may take it after later ones, so these jobs have no later ones.
            self._slots = [self._jobs() for _ in self._slots]
        ended = time.time()
        kept += [Emission(event, begun, ended) for event, _ in step]

    def _jobs(self) -> Iterator[tuple[NumberedEvent, str]]:
        """Give the events of one job after the other, each made when it is needed."""
        random = Random(self._random.getrandbits(64))
        while True:
            key = str(uuid.UUID(int=random.getrandbits(128), version=4))
            for fields in self._steps(random):
                event = NumberedEvent(key, self._next_number, time.time())
                self._next_number += 1
                usual = {"request_id": key, "preview": None, "result_url": None}
                own = {"number": event.number, "emitted_at": event.emitted_at}
                yield event, json.dumps(usual | own | fields)

    def _steps(self, random: Random) -> Iterator[dict[str, object]]:
        """Give what is special about each event of a job."""
        steps = random.randint(*_STEPS)
        yield {"status": "processing", "progress": "0.00"}
        for step in range(1, steps):
            fields: dict[str, object] = {"status": "in_progress"}
            if random.random() < self._preview_share:
                size = random.randint(_LEAST_PREVIEW_BYTES, self._most_preview_bytes)
                text = base64.b64encode(random.randbytes(size * 3 // 4)).decode()
                fields["preview"] = f"data:image/jpeg;base64,{text}"
            yield fields | {"progress": f"{100 * step / steps:.2f}"}
        if random.random() >= _ENDLESS_SHARE:
            result_url = "https://example.org/r.png"
            yield {"status": "done", "result_url": result_url, "progress": "100.00"}
