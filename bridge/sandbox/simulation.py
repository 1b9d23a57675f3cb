"""
When jobs start and take their steps, and how another Pusher server gets their events.

Two kinds of jobs run: those that keep the event rate, and requested ones, each at its
own interval. `websocket.Endpoint` publishes to the sandbox's own clients.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import httpx  # noqa: TID251 - a publisher beside the bridge, not a part of it
import msgspec
import structlog
import trio

from bridge.errors import BridgeError
from bridge.sandbox.config import EVENT_NAME, SandboxConfig, SandboxError, Statistics
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest, Status


__all__ = [
    "Emission",
    "Publisher",
    "RemotePublisher",
    "Simulation",
    "TooManyJobsError",
]

_log = structlog.get_logger("bridge.sandbox")


class TooManyJobsError(BridgeError):
    """Too many requested jobs run at once: answer 429."""


class Emission(msgspec.Struct, frozen=True):
    """One event to publish; `data` is JSON. Events of one job keep their order."""

    request_id: str
    status: str
    data: str


class Publisher(Protocol):
    """Publishes events and counts those that were accepted."""

    async def wait_for_subscriber(self) -> None:
        """Wait until the channel has a subscriber: no deadline, it may never."""

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Publish events; returns when each is accepted or refused."""

    async def aclose(self) -> None:
        """Close the connections to another server."""


# Pusher's HTTP API accepts no more events in a call.
_BATCH = 10
_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.25


class RemotePublisher:
    """
    Publishes through the HTTP API of another Pusher server.

    One call at a time, which keeps the order: with a soketi on two cores these are
    4,000 events/s in full batches.
    """

    def __init__(self, config: SandboxConfig, statistics: Statistics) -> None:
        url = urlsplit(config.pusher_url or "")
        scheme = {"ws": "http", "wss": "https"}[url.scheme]
        self._config = config
        self._statistics = statistics
        self._origin = urlunsplit((scheme, url.netloc, "", "", ""))
        self._path = f"{url.path.rstrip('/')}/apps/{quote(config.app_id)}"
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)

    async def wait_for_subscriber(self) -> None:
        """
        See `Publisher`.

        Raises:
            SandboxError: The server refuses the app or its secret.
        """
        path = f"{self._path}/channels/{quote(self._config.channel)}"
        while True:
            status, answer = await self._call("GET", path, b"")
            if status in {401, 403, 404}:
                raise SandboxError(
                    f"the Pusher server at {self._origin} refuses the app"
                    f" {self._config.app_id!r}: check app id, key and secret"
                )
            if answer.get("occupied"):
                return
            await trio.sleep(_POLL_SECONDS)

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`; what is refused or lost isn't tried again, as upstream."""
        for start in range(0, len(emissions), _BATCH):
            batch = emissions[start : start + _BATCH]
            events = [
                {"name": EVENT_NAME, "channel": self._config.channel, "data": each.data}
                for each in batch
            ]
            body = msgspec.json.encode({"batch": events})
            status, answer = await self._call(
                "POST", f"{self._path}/batch_events", body
            )
            if status == 200:
                for each in batch:
                    self._statistics.accepted(each.status)
                continue
            self._statistics.events_refused += len(batch)
            if status:
                error = answer.get("error")
                _log.warning("sandbox.publish_refused", status=status, error=error)

    async def aclose(self) -> None:
        """See `Publisher`."""
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Give the answer's status, 0 if there is none, and its JSON object."""
        try:
            response = await self._client.request(
                method,
                self._origin + path,
                params=self._config.app.signed_query(method, path, body, time.time()),
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            url, reason = self._origin, repr(error)
            _log.warning("sandbox.pusher_unreachable", url=url, error=reason)
            return 0, {}
        try:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.DecodeError:
            answer = {}
        # soketi refuses with status 200 and the code in the body as well.
        return int(answer.get("code", response.status_code)), answer


# The loop checks the clock this often; at 5,000 events/s it emits 50 each time.
_TICK_SECONDS = 0.01
# A loop that is late emits at most this much at once: bursts would only be dropped.
_CATCH_UP_SECONDS = 0.1
# A job emits about two events a second, until so many run at once.
_EVENTS_PER_JOB_SECOND = 2.0
_MAX_RUNNING = 500
_MAX_REQUESTED = 1_000
# Published at once; the connections' writers run in between.
_CHUNK_EVENTS = 64
_CHUNK_BYTES = 64 * 1024


class Simulation:
    """
    Drives the jobs.

    Attributes:
        rate: Events per second of the jobs that keep the rate.
        emitting: Whether those run: not before the first subscriber, if
            configured so.
        observers: Called with the job and its previous status after each step, before
            its event; must not wait.
    """

    def __init__(
        self, config: SandboxConfig, book: JobBook, publisher: Publisher
    ) -> None:
        self.rate = config.rate
        self.emitting = False
        self.observers: list[Callable[[Job, Status], None]] = []
        self._config = config
        self._book = book
        self._publisher = publisher
        self._rng = random.Random(config.seed)
        self._running: list[Job] = []
        self._requested: dict[Job, trio.CancelScope] = {}
        # Those that were running when the rate became 0.
        self._stopped: set[Job] = set()
        self._rate_changed = trio.Event()
        # While it is held, no event is between a job's step and the publisher.
        self._publishing = trio.Lock()
        per_event = config.preview_bytes if config.previews else 200
        self._chunk = max(1, min(_CHUNK_EVENTS, _CHUNK_BYTES // per_event))

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run until cancelled; once started, jobs can be requested."""
        async with aclosing(self._publisher), trio.open_nursery() as self._nursery:
            task_status.started()
            await self._keep_rate()

    async def set_rate(self, rate: float) -> None:
        """
        Change the rate.

        At 0 every job stops where it is, requested ones too, and no event follows once
        this returns. A positive rate resumes them.
        """
        self.rate = rate
        self._stopped = set() if rate else self._stopped | self._requested.keys()
        self._rate_changed.set()
        self._rate_changed = trio.Event()
        if not rate:
            async with self._publishing:
                pass

    def start_requested(self, request: JobRequest) -> Job:
        """
        Start a requested job, whatever the rate is.

        Raises:
            TooManyJobsError: Too many of them run.
        """
        if len(self._requested) >= _MAX_REQUESTED:
            raise TooManyJobsError(f"{_MAX_REQUESTED} requested jobs run already")
        job = self._book.start(request)
        self._requested[job] = trio.CancelScope()
        self._nursery.start_soon(self._run_requested, job, request.interval_seconds)
        return job

    async def _run_requested(self, job: Job, interval_seconds: float) -> None:
        with self._requested[job]:
            while not job.finished:
                await trio.sleep(interval_seconds)
                # No deadline: a stopped job may stay stopped.
                while job in self._stopped:
                    await self._rate_changed.wait()
                async with self._publishing:
                    if job not in self._stopped:
                        await self._publisher.publish(self._advance(job))
        del self._requested[job]
        self._stopped.discard(job)

    async def end(self, job: Job, error: JobError | None = None) -> bool:
        """
        End a job now, whatever the rate is.

        Returns:
            False if it has ended already.
        """
        async with self._publishing:
            if job.finished:
                return False
            if job in self._requested:
                # It waits for its next step: a job that takes one holds the lock.
                self._requested[job].cancel()
            else:
                self._running.remove(job)
            previous = job.status
            emissions = self._observed(job, previous, self._book.end(job, error))
            await self._publisher.publish(emissions)
        return True

    async def _keep_rate(self) -> None:
        if self._config.wait_for_subscriber:
            _log.info("sandbox.waiting_for_subscriber", channel=self._config.channel)
            await self._publisher.wait_for_subscriber()
        self.emitting = True
        _log.info("sandbox.emitting", rate=self.rate)
        due, checked_at = 0.0, trio.current_time()
        while True:
            if not self.rate:
                # No deadline: it may stay so.
                await self._rate_changed.wait()
                due, checked_at = 0.0, trio.current_time()
                continue
            now = trio.current_time()
            due += (now - checked_at) * self.rate
            due = min(due, max(2.0, self.rate * _CATCH_UP_SECONDS))
            checked_at = now
            due -= await self._emit(int(due))
            if self.rate:
                with trio.move_on_after(max(_TICK_SECONDS, (1 - due) / self.rate)):
                    await self._rate_changed.wait()

    async def _emit(self, count: int) -> int:
        emitted = 0
        while emitted < count and self.rate:
            async with self._publishing:
                size = min(count - emitted, self._chunk) if self.rate else 0
                await self._publisher.publish(
                    [self._next_emission() for _ in range(size)]
                )
            emitted += size
        return emitted

    def _next_emission(self) -> Emission:
        while True:
            wanted = round(self.rate / _EVENTS_PER_JOB_SECOND)
            while len(self._running) < min(_MAX_RUNNING, max(1, wanted)):
                self._running.append(self._book.start(JobRequest()))
            index = self._rng.randrange(len(self._running))
            job = self._running[index]
            emissions = self._advance(job)
            if job.finished:
                self._running[index] = self._running[-1]
                self._running.pop()
            if emissions:
                return emissions[0]

    def _advance(self, job: Job) -> list[Emission]:
        previous = job.status
        return self._observed(job, previous, self._book.advance(job))

    def _observed(self, job: Job, previous: Status, data: str | None) -> list[Emission]:
        for observe in self.observers:
            observe(job, previous)
        return [] if data is None else [Emission(job.request_id, job.status, data)]
