"""
When jobs start and take their steps: the simulation's clock.

Two kinds of jobs run: those that keep the event rate, and those that somebody
asked for, each at its own pace. What a step is stands in `jobs`, where its
event goes in `publisher`, what a webhook says of it in `webhooks`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog
import trio

from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.errors import TooManyJobsError
from bridge.sandbox.jobs import Job, JobBook, JobError, JobRequest, Status
from bridge.sandbox.publisher import Emission, Publisher


__all__ = ["Simulation"]

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

_log = structlog.get_logger("bridge.sandbox")


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

        Args:
            rate: Events per second.
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

        Args:
            job: A simulated or a requested one.
            error: Why it fails; None lets it be done.

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
