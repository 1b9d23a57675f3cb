"""Jobs as dryAPI would run them, published through a real soketi."""

from __future__ import annotations

import base64
import json
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from io import BytesIO

import trio
from PIL import Image

from tests.kit.bridge_process import BridgeProcess
from tests.kit.publisher import Event, Publisher


JOB_EVENT = "request.status.updated"

# soketi drops in silence what a slow reader leaves lying: more than 1 MiB above
# what the kernel buffers. On the tests' part that would be a loss of their own.
_WINDOW_BYTES = 900_000

# Pusher's HTTP API takes ten events a call.
_BATCH = 10

_LOOK_SECONDS = 0.01

# A steady load: jobs of ten events, and a pause after each batch that leaves the
# machine's other work its part.
_STEPS = 8
_PAUSE = 0.01


def jpeg(shade: int) -> bytes:
    """Paint a small image."""
    out = BytesIO()
    Image.new("L", (64, 64), shade).save(out, "JPEG")
    return out.getvalue()


def data_uri(image: bytes) -> str:
    """Give an image as dryAPI sends previews."""
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def job(steps: int, previews: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Make a job's events; no two events of any jobs are alike."""
    request_id = str(uuid.uuid4())

    def event(status: str, progress: float, **more: str) -> str:
        fields: dict[str, str | None] = {
            "request_id": request_id,
            "status": status,
            "preview": None,
            "result_url": None,
            "progress": f"{progress:.2f}",
        }
        return json.dumps({**fields, **more})

    texts = [event("processing", 0.0)]
    without = steps - len(previews)
    for step in range(1, steps + 1):
        more = {"preview": previews[step - without - 1]} if step > without else {}
        texts.append(event("in_progress", 99.0 * step / steps, **more))
    # A member that the contract doesn't know, and letters beyond ASCII.
    result = f"https://storage.dryapi.dev/results/{request_id}.png?signature=abc"
    texts.append(event("done", 100.0, result_url=result, model="Flux ∴ schnell"))
    return request_id, texts


class Load:
    """Publishes jobs and remembers what was accepted."""

    def __init__(
        self, publisher: Publisher, channel: str, reader: BridgeProcess | None = None
    ) -> None:
        self._publisher = publisher
        self._channel = channel
        self._reader = reader
        self._turn = trio.Lock()
        self._running = trio.Lock()
        self._unread: deque[int] = deque()
        self._read = 0
        self._stopped = False
        self.accepted: dict[str, list[bytes]] = {}

    @property
    def count(self) -> int:
        """How many events were accepted."""
        return sum(len(values) for values in self.accepted.values())

    async def run_together(self, jobs: Sequence[tuple[str, list[str]]]) -> None:
        """Run jobs side by side until the last has ended."""
        async with trio.open_nursery() as nursery:
            for first in range(0, len(jobs), _BATCH):
                nursery.start_soon(self._run_group, jobs[first : first + _BATCH])

    async def keep_running(self) -> None:
        """Run ten jobs after the other ten, about 700 events a second, until `stop`."""
        async with self._running:
            self._stopped = False
            while not self._stopped:
                await self._run_group([job(_STEPS) for _ in range(_BATCH)], _PAUSE)

    async def stop(self) -> None:
        """Let `keep_running` return when its present batch is accepted."""
        self._stopped = True
        async with self._running:
            self._stopped = False

    async def _run_group(
        self, jobs: Sequence[tuple[str, list[str]]], pause_seconds: float = 0.0
    ) -> None:
        """Let up to ten jobs take their steps together, one batch a step."""
        for step in _steps(jobs):
            if self._stopped:
                return
            events = [Event(self._channel, JOB_EVENT, text) for _, text in step]
            if self._reader is not None:
                await self._wait_for_reader([len(event.data) for event in events])
            await self._publisher.publish_batch(events)
            for request_id, text in step:
                self.accepted.setdefault(request_id, []).append(text.encode())
            await trio.sleep(pause_seconds)

    async def _wait_for_reader(self, sizes: Sequence[int]) -> None:
        """Keep what is on its way to the bridge small."""
        assert self._reader is not None
        async with self._turn:
            while self._unread and sum(self._unread) + sum(sizes) > _WINDOW_BYTES:
                read = (await self._reader.metrics()).read
                # In the order of publishing, which is nearly that of arriving.
                for _ in range(min(read - self._read, len(self._unread))):
                    self._unread.popleft()
                self._read = read
                await trio.sleep(_LOOK_SECONDS)
            self._unread.extend(sizes)


def _steps(
    jobs: Sequence[tuple[str, list[str]]],
) -> Iterator[list[tuple[str, str]]]:
    for number in range(max(len(texts) for _, texts in jobs)):
        yield [
            (request_id, texts[number])
            for request_id, texts in jobs
            if number < len(texts)
        ]
