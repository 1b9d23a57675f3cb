"""
Simulated jobs, from `pending` to `done` or `error`, and their pictures.

Everything is painted once, before the first job starts; a job only names a picture.
When a job takes its next step is decided in `simulation`.
"""

from __future__ import annotations

import base64
import math
import random
import time
import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Literal

import msgspec
from PIL import Image, ImageDraw, ImageOps

from bridge.sandbox.config import Addresses, SandboxConfig, Statistics


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
    """
    Everything there is to show.

    Attributes:
        previews: For each picture, each stage's data URI.
        jpegs: For each picture, each stage as JPEG.
        results: For each picture, the finished JPEG.
    """

    previews: tuple[tuple[str, ...], ...]
    jpegs: tuple[tuple[bytes, ...], ...]
    results: tuple[bytes, ...]

    def number_of(self, request_id: str) -> int:
        """Choose the picture of a job: the same one for the same id, always."""
        return int(request_id.replace("-", ""), 16) % len(self.results)


@lru_cache(maxsize=4)
def paint(preview_bytes: int) -> Pictures:
    """
    Paint all pictures; takes a few tenths of a second, once for each size.

    Returns:
        The pictures.
    """
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
    for height, roughness, colour in ((0.55, 0.10, far), (0.72, 0.06, near)):
        phases = [rng.uniform(0, math.tau) for _ in range(5)]
        ridge = [
            (column, side * _ridge(column / side, height, roughness, phases))
            for column in range(side + 1)
        ]
        draw.polygon([*ridge, (side, side), (0, side)], fill=colour)
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
        """Take a job's next step; give the event's data, None for a failure."""
        job.advance(self._rng)
        return self._take_note(job)

    def end(self, job: Job, error: JobError | None = None) -> bytes | None:
        """
        End a running job at once, wherever it stands.

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
