"""
Simulated jobs, from `pending` to `done` or `error`, and their pictures.

When a job takes its next step is decided in `simulation`.
"""

from __future__ import annotations

import base64
import math
import random
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Literal

import msgspec
from PIL import Image, ImageDraw, ImageOps

from bridge.sandbox.config import Addresses, SandboxConfig, Statistics, iso_time


__all__ = [
    "STAGES",
    "Job",
    "JobBook",
    "JobError",
    "JobRequest",
    "Pictures",
    "Status",
    "paint",
]


# -- Pictures ------------------------------------------------------------------

# How often a preview gets sharper: from four blocks a side up to every pixel.
STAGES = 8
_FIRST_BLOCKS = 4

# Sky above, sky at the horizon, sun, far hills, near hills.
_PALETTES = (
    ("#1b2a49", "#f2a65a", "#ffe8b0", "#5a4a6a", "#1f1a2e"),
    ("#0f4c75", "#bbe1fa", "#ffffff", "#3282b8", "#1b262c"),
    ("#2d132c", "#ee4540", "#ffd5a5", "#801336", "#2d132c"),
    ("#114b5f", "#e4fde1", "#fff6c9", "#456990", "#028090"),
    ("#3a0ca3", "#f72585", "#ffd6ff", "#7209b7", "#240046"),
    ("#606c38", "#fefae0", "#fff3b0", "#a3b18a", "#283618"),
)

_RESULT_SIDE = 768
_QUALITY = 72


class Pictures(msgspec.Struct, frozen=True):
    """All pictures: the stages of each as data URIs and as JPEG, and its result."""

    previews: tuple[tuple[str, ...], ...]
    jpegs: tuple[tuple[bytes, ...], ...]
    results: tuple[bytes, ...]

    def number_of(self, request_id: str) -> int:
        """Choose the picture of a job: always the same one for an id."""
        return int(request_id.replace("-", ""), 16) % len(self.results)


@lru_cache(maxsize=4)
def paint(preview_bytes: int) -> Pictures:
    """Paint all pictures; takes a few tenths of a second, once for each size."""
    jpegs = []
    for number in range(len(_PALETTES)):
        side = _side_for(number, preview_bytes)
        sharp = _landscape(number, side)
        jpegs.append(tuple(_jpeg(_stage(sharp, stage)) for stage in range(STAGES)))
    return Pictures(
        previews=tuple(tuple(_data_uri(jpeg) for jpeg in each) for each in jpegs),
        jpegs=tuple(jpegs),
        results=tuple(
            _jpeg(_landscape(number, _RESULT_SIDE)) for number in range(len(_PALETTES))
        ),
    )


def _side_for(number: int, preview_bytes: int) -> int:
    # A JPEG's size grows about with its area above a fixed part: three steps
    # come within some ten percent.
    side = 64
    for _ in range(3):
        size = len(_data_uri(_jpeg(_landscape(number, side))))
        side = max(16, min(2_000, round(side * math.sqrt(preview_bytes / size))))
    return side


def _landscape(number: int, side: int) -> Image.Image:
    high, low, sun, far, near = _PALETTES[number]
    rng = random.Random(number)
    gradient = Image.linear_gradient("L").resize((side, side))
    image = ImageOps.colorize(gradient, high, low)
    draw = ImageDraw.Draw(image)
    x, y, radius = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.5), 0.1
    box = [(x - radius) * side, (y - radius) * side]
    draw.ellipse([*box, (x + radius) * side, (y + radius) * side], fill=sun)
    for height, roughness, color in ((0.55, 0.10, far), (0.72, 0.06, near)):
        phases = [rng.uniform(0, math.tau) for _ in range(5)]
        ridge = [
            (column, side * _ridge(column / side, height, roughness, phases))
            for column in range(side + 1)
        ]
        draw.polygon([*ridge, (side, side), (0, side)], fill=color)
    # Grain, so that the sharp picture has something that the blurred ones lack.
    grain = Image.effect_noise((side, side), 48).convert("RGB")
    return Image.blend(image, grain, 0.08)


def _ridge(x: float, height: float, roughness: float, phases: list[float]) -> float:
    waves = (
        math.sin(math.tau * x * 1.7**octave + phase) / 1.8**octave
        for octave, phase in enumerate(phases)
    )
    return height - roughness * sum(waves)


def _stage(sharp: Image.Image, stage: int) -> Image.Image:
    if stage == STAGES - 1:
        return sharp
    detail = (sharp.width / _FIRST_BLOCKS) ** (stage / (STAGES - 1))
    blocks = round(_FIRST_BLOCKS * detail)
    small = sharp.resize((blocks, blocks), Image.Resampling.BOX)
    return small.resize(sharp.size, Image.Resampling.BICUBIC)


def _jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


# -- Jobs ----------------------------------------------------------------------

Status = Literal["pending", "processing", "in_progress", "done", "error"]

# How many `in_progress` events a job has by default.
_STEPS = (8, 30)

# Finished jobs that the status endpoint remembers: about 300 bytes each.
_MAX_FINISHED = 100_000


class JobError(msgspec.Struct, frozen=True):
    """Why a job failed; only webhooks report it."""

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
    """What `POST /jobs` may ask for; unknown members are ignored, None is chance."""

    # How many `in_progress` events the job has.
    steps: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    # From one event to the next.
    interval_seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.5
    fail: bool | None = None


@dataclass(eq=False, slots=True)
class Job:
    """One job; its times are seconds since the epoch."""

    request_id: str  # a UUID
    steps: int  # how many `in_progress` events it has
    fails_at: int | None  # after which of them it fails, if it does
    step: int = -1  # the one it is at
    status: Status = "pending"
    progress: float = 0.0  # percent; it never decreases
    error: JobError | None = None
    started_at: float = 0.0  # when it left `pending`
    ended_at: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.status in {"done", "error"}

    @property
    def stage(self) -> int:
        """How sharp its preview is, from 0 to the last of `STAGES`."""
        return min(STAGES - 1, int(self.progress / 100 * STAGES))


class JobBook:
    """Every running job, and the finished ones up to a limit."""

    def __init__(
        self, config: SandboxConfig, addresses: Addresses, statistics: Statistics
    ) -> None:
        self._config = config
        self._addresses = addresses
        self._statistics = statistics
        self._running: dict[str, Job] = {}
        self._finished: dict[str, Job] = {}
        self._rng = random.Random(config.seed)

    def start(self, request: JobRequest) -> Job:
        """Start a job; it is `pending`."""
        rng = self._rng
        steps = rng.randint(*_STEPS) if request.steps is None else request.steps
        chance = rng.random() < self._config.fail
        fails = chance if request.fail is None else request.fail
        request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        job = Job(request_id, steps, rng.randint(0, steps) if fails else None)
        self._running[request_id] = job
        self._statistics.jobs_started += 1
        return job

    def get(self, request_id: str) -> Job | None:
        """Find a job; None if it is unknown or forgotten."""
        return self._running.get(request_id) or self._finished.get(request_id)

    def advance(self, job: Job) -> str | None:
        """
        Take a job's next step.

        Returns:
            The event's `data`, or None if no event reports the step.
        """
        job.step += 1
        if job.step == 0:
            job.status = "processing"
        elif job.fails_at is not None and job.step > job.fails_at:
            return self.end(job, _ERRORS[uuid.UUID(job.request_id).int % len(_ERRORS)])
        elif job.step > job.steps:
            return self.end(job)
        else:
            # Steps of uneven length that can't overtake each other.
            position = job.step + self._rng.uniform(-0.3, 0.3)
            job.status = "in_progress"
            job.progress = round(position / (job.steps + 1) * 100, 2)
        job.started_at = job.started_at or time.time()
        return self._event(job)

    def end(self, job: Job, error: JobError | None = None) -> str | None:
        """End a running job, whatever its step; returns what `advance` returns."""
        job.ended_at = time.time()
        job.started_at = job.started_at or job.ended_at
        if error is None:
            job.status, job.progress = "done", 100.0
            self._statistics.jobs_done += 1
        else:
            job.status, job.error = "error", error
            self._statistics.jobs_failed += 1
        self._finished[job.request_id] = self._running.pop(job.request_id)
        if len(self._finished) > _MAX_FINISHED:
            del self._finished[next(iter(self._finished))]
        return None if error is not None else self._event(job)

    def _event(self, job: Job) -> str:
        # Upstream's members, in the order of its documentation.
        data: dict[str, str | None] = {
            "request_id": job.request_id,
            "status": job.status,
            "preview": None,
            "result_url": None,
            "progress": f"{job.progress:.2f}",
        }
        if job.status == "in_progress" and self._config.previews:
            pictures = paint(self._config.preview_bytes)
            picture = pictures.number_of(job.request_id)
            data["preview"] = pictures.previews[picture][job.stage]
        if job.status == "done":
            data["result_url"] = self._addresses.result(job.request_id)
        if self._config.stamp:
            data["sandbox_emitted_at"] = iso_time(time.time())
        return msgspec.json.encode(data).decode()
