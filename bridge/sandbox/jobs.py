"""
Simulated jobs: their way from `pending` to `done` or `error`.

A job's steps, the events that tell of them, and the book in which the status
endpoint looks jobs up. When a job takes its next step is decided in
`simulation`.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Literal

import msgspec

from bridge.sandbox.addresses import Addresses
from bridge.sandbox.config import SandboxConfig
from bridge.sandbox.previews import STAGES, Pictures
from bridge.sandbox.statistics import Statistics


__all__ = ["Job", "JobBook", "JobError", "JobRequest", "Status"]

Status = Literal["pending", "processing", "in_progress", "done", "error"]

# How many `in_progress` events a job has, unless it is told.
_STEPS = (8, 30)


class JobError(msgspec.Struct, frozen=True):
    """
    Why a job failed; webhooks alone say it.

    Attributes:
        error_code: One of dryAPI's documented codes, or another: more may come.
        error_message: A sentence for people.
    """

    error_code: str
    error_message: str


# The documented codes; the sentences are made up.
_ERRORS = (
    JobError("WORKER_TIMEOUT", "The worker did not answer in time."),
    JobError("PROCESSING_ERROR", "The worker failed while it painted."),
    JobError("AGE_RESTRICTED", "The prompt asks for age-restricted content."),
    JobError("CONTEXT_LENGTH_EXCEEDED", "The prompt is longer than the model reads."),
    JobError("INVALID_INPUT", "The model can't read this input."),
    JobError("UNKNOWN_ERROR", "Something went wrong."),
)


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    What `POST /jobs` may ask for; members that it doesn't know are let through.

    Attributes:
        steps: How many `in_progress` events come, 0 to 10,000.
        interval_seconds: The time from one event to the next.
        fail: Whether it ends as `error`; None leaves it to chance.
    """

    steps: int | msgspec.UnsetType = msgspec.UNSET
    interval_seconds: float = 0.5
    fail: bool | None = None

    def __post_init__(self) -> None:
        """
        Check the ranges.

        Raises:
            ValueError: One is left.
        """
        if self.steps is not msgspec.UNSET and not 0 <= self.steps <= 10_000:
            raise ValueError("steps: expected 0 to 10000")
        if not 0 <= self.interval_seconds <= 3600:
            raise ValueError("interval_seconds: expected 0 to 3600")


class _Update(msgspec.Struct, frozen=True):
    # Upstream's members, in the order of its documentation.
    request_id: str
    status: str
    preview: str | None
    result_url: str | None
    progress: str


class _StampedUpdate(_Update, frozen=True):
    sandbox_emitted_at: str


class Job:
    """
    One job.

    Attributes:
        request_id: A UUID.
        status: Where it stands; `in_progress` is `processing` to the status endpoint.
        progress: Percent, never falling.
        picture: Which picture it paints.
        error: Why it failed.
        started_at: When it was `processing` first, seconds since the epoch.
        ended_at: When it ended.
    """

    __slots__ = (
        "_fails_at",
        "_step",
        "_steps",
        "ended_at",
        "error",
        "picture",
        "progress",
        "request_id",
        "started_at",
        "status",
    )

    def __init__(
        self, request_id: str, *, picture: int, steps: int, fails_at: int | None
    ) -> None:
        self.request_id = request_id
        self.status: Status = "pending"
        self.progress = 0.0
        self.picture = picture
        self.error: JobError | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self._step = -1
        self._steps = steps
        self._fails_at = fails_at

    @property
    def finished(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in {"done", "error"}

    @property
    def stage(self) -> int:
        """How sharp its preview is, from 0 to the last of `STAGES`."""
        return min(STAGES - 1, int(self.progress / 100 * STAGES))

    def advance(self, rng: random.Random) -> None:
        """Take the next step: `status` and `progress` change."""
        self._step += 1
        if self._step == 0:
            self.status = "processing"
        elif self._fails_at is not None and self._step > self._fails_at:
            self.status = "error"
        elif self._step > self._steps:
            self.status, self.progress = "done", 100.0
        else:
            # Steps of uneven length that can't overtake each other.
            position = self._step + rng.uniform(-0.3, 0.3)
            self.status = "in_progress"
            self.progress = round(position / (self._steps + 1) * 100, 2)


class JobBook:
    """Every job that is running, and the finished ones up to a limit."""

    def __init__(
        self,
        config: SandboxConfig,
        pictures: Pictures,
        addresses: Addresses,
        statistics: Statistics,
    ) -> None:
        self._config = config
        self._pictures = pictures
        self._addresses = addresses
        self._statistics = statistics
        self._running: dict[str, Job] = {}
        self._finished: OrderedDict[str, Job] = OrderedDict()
        self._rng = random.Random(config.seed)
        # Of its own, so that what failures say changes no job.
        self._errors_rng = random.Random(config.seed)

    def start(self, request: JobRequest | None = None) -> Job:
        """
        Begin a job.

        Args:
            request: What it should be like; None leaves all to chance.

        Returns:
            The job, `pending`.
        """
        wanted = request or JobRequest()
        rng = self._rng
        steps = rng.randint(*_STEPS) if wanted.steps is msgspec.UNSET else wanted.steps
        chance = rng.random() < self._config.fail
        fails = chance if wanted.fail is None else wanted.fail
        request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        job = Job(
            request_id,
            picture=self._pictures.number_of(request_id),
            steps=steps,
            fails_at=rng.randint(0, steps) if fails else None,
        )
        self._running[request_id] = job
        self._statistics.jobs_started += 1
        return job

    def get(self, request_id: str) -> Job | None:
        """Look a job up; None for one that never was or is forgotten."""
        return self._running.get(request_id) or self._finished.get(request_id)

    def advance(self, job: Job) -> bytes | None:
        """
        Let a job take its next step.

        Returns:
            The event's `data`, or None if no event tells of the step: a failure
            is never pushed.
        """
        job.advance(self._rng)
        return self._take_note(job)

    def end(self, job: Job, error: JobError | None = None) -> bytes | None:
        """
        End a running job at once, wherever it stands.

        Args:
            job: The job.
            error: Why it fails; None lets it be done.

        Returns:
            The event's `data`, or None if no event tells of the end.
        """
        if error is None:
            job.status, job.progress = "done", 100.0
        else:
            job.status, job.error = "error", error
        return self._take_note(job)

    def _take_note(self, job: Job) -> bytes | None:
        if job.started_at is None:
            job.started_at = time.time()
        if job.finished:
            self._finish(job)
        return None if job.status == "error" else self._encode(job)

    def _finish(self, job: Job) -> None:
        del self._running[job.request_id]
        job.ended_at = time.time()
        if job.status == "error" and job.error is None:
            job.error = self._errors_rng.choice(_ERRORS)
        if job.status == "done":
            self._statistics.jobs_done += 1
        else:
            self._statistics.jobs_failed += 1
        self._finished[job.request_id] = job
        while len(self._finished) > self._config.keep_finished_jobs:
            self._finished.popitem(last=False)

    def _encode(self, job: Job) -> bytes:
        preview = result_url = None
        if job.status == "in_progress" and self._config.previews:
            preview = self._pictures.previews[job.picture][job.stage]
        elif job.status == "done":
            result_url = self._addresses.result(job.request_id, time.time())
        progress = f"{job.progress:.2f}"
        if not self._config.stamp:
            update = _Update(job.request_id, job.status, preview, result_url, progress)
            return msgspec.json.encode(update)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return msgspec.json.encode(
            _StampedUpdate(
                job.request_id,
                job.status,
                preview,
                result_url,
                progress,
                now.replace("+00:00", "Z"),
            )
        )
