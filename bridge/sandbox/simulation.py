"""
When jobs start and take their steps, and where their events are published.

Two kinds of jobs run: those that keep the event rate, and requested ones, each at its
own pace. Events are published to the sandbox's own channels, or to another Pusher
server through the HTTP API of its server libraries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import httpx  # noqa: TID251 - a publisher beside the bridge, not a part of it
import msgspec
import structlog
import trio

from bridge.sandbox import frames
from bridge.sandbox.config import (
    EVENT_NAME,
    Call,
    SandboxConfig,
    SandboxError,
    Statistics,
    TooManyJobsError,
)
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest, Status
from bridge.sandbox.websocket import Channels


__all__ = ["ChannelPublisher", "Emission", "Publisher", "RemotePublisher", "Simulation"]


class Emission(msgspec.Struct, frozen=True):
    """
    One event on its way out.

    Attributes:
        request_id: The job; events of one job keep their order.
        status: The job's status that it tells of.
        data: The event's `data`, JSON as text.
    """

    request_id: str
    status: str
    data: str


class Publisher(Protocol):
    """Publishes events and counts those that were accepted."""

    async def run(self) -> None:
        """Do what must be done in the background; may return at once."""

    async def wait_for_subscriber(self) -> None:
        """Return when somebody is subscribed: no deadline, it may never."""

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """Take events; may wait while the server is behind."""

    async def flush(self) -> None:
        """Return when everything taken is accepted or refused."""


class ChannelPublisher:
    """Publishes to the sandbox's own channels."""

    def __init__(
        self, channel: str, channels: Channels, statistics: Statistics
    ) -> None:
        self._channel = channel
        self._channels = channels
        self._statistics = statistics

    async def run(self) -> None:
        """Return: nothing happens in the background."""

    async def wait_for_subscriber(self) -> None:
        """See `Publisher`."""
        await self._channels.wait_for_subscriber(self._channel)

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`; accepted means offered to the channel's subscribers."""
        for emission in emissions:
            frame = frames.channel_event(EVENT_NAME, self._channel, emission.data)
            self._channels.publish(self._channel, frame)
            self._statistics.accepted(emission.status)
        # The connections' writers run now, before their queues grow long.
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Return: nothing waits."""


# Pusher's HTTP API takes no more events in a call.
_BATCH = 10
# A job's events go through one lane, which keeps their order; a lane has one
# call open at a time. Measured with a soketi on two cores: 4,000 events/s with
# one lane, 6,000 to 7,000 with two, no more with four.
_LANES = 2
_LANE_LENGTH = 100
_TIMEOUT_SECONDS = 10.0
_FLUSH_SECONDS = 15.0
_CLOSE_SECONDS = 1.0
_LOOK_SECONDS = 0.25

_log = structlog.get_logger("bridge.sandbox")


class RemotePublisher:
    """Publishes through `POST /apps/{id}/batch_events`."""

    def __init__(self, config: SandboxConfig, statistics: Statistics) -> None:
        url = urlsplit(config.pusher_url or "")
        scheme = {"ws": "http", "wss": "https"}[url.scheme]
        self._config = config
        self._statistics = statistics
        self._base = urlunsplit((scheme, url.netloc, url.path.rstrip("/"), "", ""))
        self._path = f"{url.path.rstrip('/')}/apps/{quote(config.app_id)}"
        self._origin = urlunsplit((scheme, url.netloc, "", "", ""))
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)
        self._lanes = [
            trio.open_memory_channel[Emission](_LANE_LENGTH) for _ in range(_LANES)
        ]
        self._pending = 0
        self._idle = trio.Event()
        self._idle.set()
        self._reachable = True

    async def run(self) -> None:
        """Serve the lanes until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for _, lane in self._lanes:
                    nursery.start_soon(self._serve_lane, lane)
        finally:
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._client.aclose()

    async def publish(self, emissions: Sequence[Emission]) -> None:
        """See `Publisher`."""
        for emission in emissions:
            if self._idle.is_set():
                self._idle = trio.Event()
            self._pending += 1
            send, _ = self._lanes[hash(emission.request_id) % _LANES]
            try:
                await send.send(emission)
            except trio.Cancelled:
                self._settle(1)
                raise

    async def flush(self) -> None:
        """See `Publisher`; gives up after the time that two calls may take."""
        with trio.move_on_after(_FLUSH_SECONDS):
            await self._idle.wait()

    async def wait_for_subscriber(self) -> None:
        """
        See `Publisher`.

        Raises:
            SandboxError: The server refuses the app or its secret.
        """
        path = f"{self._path}/channels/{quote(self._config.channel)}"
        while True:
            answer = await self._call("GET", path, b"")
            if answer is not None:
                status, body = answer
                if status in {401, 403, 404} or body.get("code") in {401, 403, 404}:
                    raise SandboxError(
                        f"the Pusher server at {self._base} refuses the app"
                        f" {self._config.app_id!r}: check app id, key and secret"
                    )
                if body.get("occupied"):
                    return
            await trio.sleep(_LOOK_SECONDS)

    async def _serve_lane(self, lane: trio.MemoryReceiveChannel[Emission]) -> None:
        while True:
            batch = [await lane.receive()]
            try:
                while len(batch) < _BATCH:
                    batch.append(lane.receive_nowait())
            except trio.WouldBlock:
                pass
            try:
                await self._publish(batch)
            finally:
                self._settle(len(batch))

    def _settle(self, count: int) -> None:
        self._pending -= count
        if not self._pending:
            self._idle.set()

    async def _publish(self, batch: Sequence[Emission]) -> None:
        events = [
            {"name": EVENT_NAME, "channel": self._config.channel, "data": each.data}
            for each in batch
        ]
        body = msgspec.json.encode({"batch": events})
        answer = await self._call("POST", f"{self._path}/batch_events", body)
        # soketi refuses with status 200 and an error in the body as well.
        if answer is None or answer[0] != 200 or "code" in answer[1]:
            self._statistics.events_refused += len(batch)
            if answer is not None:
                _log.warning(
                    "sandbox.publish_refused",
                    status=answer[1].get("code", answer[0]),
                    error=answer[1].get("error"),
                )
            return
        for emission in batch:
            self._statistics.accepted(emission.status)

    async def _call(
        self, method: str, path: str, body: bytes
    ) -> tuple[int, dict[str, Any]] | None:
        call = Call(method, path, body=body)
        query = self._config.app.signed_query(call, time.time())
        try:
            response = await self._client.request(
                method,
                self._origin + path,
                params=query,
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            # Not tried again: dryAPI replays nothing either.
            if self._reachable:
                _log.warning(
                    "sandbox.pusher_unreachable", url=self._base, error=repr(error)
                )
            self._reachable = False
            return None
        self._reachable = True
        try:
            answer = msgspec.json.decode(response.content)
        except msgspec.DecodeError:
            answer = None
        return response.status_code, answer if isinstance(answer, dict) else {}


# The loop looks at the clock so often; at 5,000 events/s a look emits 50.
_TICK_SECONDS = 0.01
# After a stall so much is caught up on, no more: a burst would only be dropped.
_CATCH_UP_SECONDS = 0.1
# A job emits about two events a second, until so many run at once.
_EVENTS_PER_JOB_SECOND = 2.0
_MAX_RUNNING = 500
_MAX_REQUESTED = 1_000
# One hand-over to the publisher; its connections' writers run between two.
_CHUNK_EVENTS = 64
_CHUNK_BYTES = 64 * 1024


class _Pace:
    # How a requested job goes on: whether it may, and what ends it.
    def __init__(self) -> None:
        self.may_go_on = trio.Event()
        self.may_go_on.set()
        self.scope = trio.CancelScope()


def _tell_nobody(_job: Job, _previous: Status) -> None:
    pass


class Simulation:
    """
    Drives the jobs.

    Args:
        config: The rate, and whether to wait for a subscriber.
        book: Where jobs are written down.
        publisher: Takes the events.
        announce: Called at each step, after it and before its event, with the job
            and the status it had; must not wait.

    Attributes:
        rate: Events per second of the jobs that nobody asked for.
        emitting: Whether those are running: not before the first subscriber, if
            the configuration says so.
    """

    def __init__(
        self,
        config: SandboxConfig,
        book: JobBook,
        publisher: Publisher,
        announce: Callable[[Job, Status], None] = _tell_nobody,
    ) -> None:
        self.rate = config.rate
        self.emitting = False
        self._config = config
        self._book = book
        self._publisher = publisher
        self._announce = announce
        self._rng = random.Random(config.seed)
        self._running: list[Job] = []
        self._requested: dict[Job, _Pace] = {}
        self._rate_changed = trio.Event()
        # Held while events are handed over: whoever holds it knows that none is
        # between a job's step and the publisher.
        self._publishing = trio.Lock()
        self._nursery: trio.Nursery | None = None
        per_event = config.preview_bytes if config.previews else 200
        self._chunk = max(1, min(_CHUNK_EVENTS, _CHUNK_BYTES // per_event))

    async def run(self) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._publisher.run)
            await self._keep_rate()

    async def set_rate(self, rate: float) -> None:
        """
        Change the rate.

        At 0 every job stands still, those that were asked for too, and nothing
        that they had to say is left behind when this returns. A positive rate
        lets them go on.
        """
        self.rate = rate
        self._rate_changed.set()
        self._rate_changed = trio.Event()
        for pace in self._requested.values():
            if rate:
                pace.may_go_on.set()
            else:
                pace.may_go_on = trio.Event()
        if not rate:
            async with self._publishing:
                await self._publisher.flush()

    def start_requested(self, request: JobRequest) -> Job:
        """
        Start a job that somebody asked for, whatever the rate is.

        Raises:
            TooManyJobsError: Too many of them run.
        """
        if len(self._requested) >= _MAX_REQUESTED:
            raise TooManyJobsError(f"{_MAX_REQUESTED} requested jobs run already")
        if self._nursery is None:
            raise TooManyJobsError("the simulation doesn't run yet")
        job = self._book.start(request)
        self._requested[job] = _Pace()
        self._nursery.start_soon(self._run_requested, job, request.interval_seconds)
        return job

    async def _run_requested(self, job: Job, interval_seconds: float) -> None:
        pace = self._requested[job]
        with pace.scope:
            while not job.finished:
                await trio.sleep(interval_seconds)
                # No deadline: a stopped emission may stay stopped.
                await pace.may_go_on.wait()
                async with self._publishing:
                    if pace.may_go_on.is_set():
                        emission = self._step(job)
                        if emission is not None:
                            await self._publisher.publish([emission])
        del self._requested[job]

    async def end(self, job: Job, error: JobError | None = None) -> bool:
        """
        End a job now, whatever the rate is and whoever is subscribed.

        Returns:
            False if it has ended already.
        """
        async with self._publishing:
            if job.finished:
                return False
            if job in self._requested:
                # It waits for its next step: whoever takes one holds the lock.
                self._requested[job].scope.cancel()
            else:
                self._running.remove(job)
            previous = job.status
            emission = self._emission(job, previous, self._book.end(job, error))
            if emission is not None:
                await self._publisher.publish([emission])
        return True

    async def _keep_rate(self) -> None:
        if self._config.wait_for_subscriber:
            _log.info("sandbox.waiting_for_subscriber", channel=self._config.channel)
            await self._publisher.wait_for_subscriber()
        self.emitting = True
        _log.info("sandbox.emitting", rate=self.rate)
        due, looked_at = 0.0, trio.current_time()
        while True:
            if not self.rate:
                # No deadline: it may stay so.
                await self._rate_changed.wait()
                due, looked_at = 0.0, trio.current_time()
                continue
            now = trio.current_time()
            due += (now - looked_at) * self.rate
            due = min(due, max(2.0, self.rate * _CATCH_UP_SECONDS))
            looked_at = now
            due -= await self._emit(int(due))
            if self.rate:
                with trio.move_on_after(max(_TICK_SECONDS, (1 - due) / self.rate)):
                    await self._rate_changed.wait()

    async def _emit(self, count: int) -> int:
        emitted = 0
        while emitted < count:
            async with self._publishing:
                if not self.rate:
                    break
                size = min(count - emitted, self._chunk)
                await self._publisher.publish(
                    [self._next_emission() for _ in range(size)]
                )
            emitted += size
        return emitted

    def _next_emission(self) -> Emission:
        while True:
            wanted = round(self.rate / _EVENTS_PER_JOB_SECOND)
            while len(self._running) < min(_MAX_RUNNING, max(1, wanted)):
                self._running.append(self._book.start())
            index = self._rng.randrange(len(self._running))
            job = self._running[index]
            emission = self._step(job)
            if job.finished:
                self._running[index] = self._running[-1]
                self._running.pop()
            if emission is not None:
                return emission

    def _step(self, job: Job) -> Emission | None:
        previous = job.status
        return self._emission(job, previous, self._book.advance(job))

    def _emission(
        self, job: Job, previous: Status, data: bytes | None
    ) -> Emission | None:
        self._announce(job, previous)
        if data is None:
            return None
        return Emission(job.request_id, job.status, data.decode())
