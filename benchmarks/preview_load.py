"""
A load of which previews are most: jobs whose pictures grow sharper, all of them JPEGs.

Owns the frames' texts. The pictures are the sandbox's, changed for each job, so that no
codec meets the same one twice in a batch; the seed decides how.
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageChops

from benchmarks.traffic import message_of
from bridge.sandbox.jobs import STAGES, paint


__all__ = ["EVENTS_A_JOB", "PREVIEWS_A_JOB", "PreviewLoad"]

PREVIEWS_A_JOB = STAGES

# Beside them: processing and done.
EVENTS_A_JOB = STAGES + 2

# So many jobs run side by side, their events in turn.
_TOGETHER = 20

# As the sandbox's: from four blocks a side up to every pixel.
_FIRST_BLOCKS = 4
_QUALITY = 72

# With so much of it the sharpest picture is as large as the sandbox's.
_GRAIN = 0.05


@dataclass(frozen=True)
class PreviewLoad:
    """
    Jobs of ten events, eight of them with a preview.

    Attributes:
        preview_bytes: About how long the sharpest preview is, as a data URI.
        jobs: How many jobs.
        seed: What pictures and ids follow from.
    """

    preview_bytes: int
    jobs: int
    seed: int = 6

    def messages(self) -> list[str]:
        """Give the frames of all events, each job's in order; it paints for seconds."""
        jobs = [list(self._job(number)) for number in range(self.jobs)]
        return [
            message_of(job[step])
            for first in range(0, self.jobs, _TOGETHER)
            for step in range(EVENTS_A_JOB)
            for job in jobs[first : first + _TOGETHER]
        ]

    def _job(self, number: int) -> Iterator[str]:
        rng = random.Random(f"{self.seed}-{self.preview_bytes}-{number}")
        request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))

        def event(status: str, progress: str, **more: str) -> str:
            members: dict[str, str | None] = {
                "request_id": request_id,
                "status": status,
                "preview": None,
                "result_url": None,
                "progress": progress,
            }
            return json.dumps({**members, **more}, separators=(",", ":"))

        yield event("processing", "0.00")
        pictures = paint(self.preview_bytes).results
        picture = _changed(pictures[number % len(pictures)], rng, self._side(number))
        for stage in range(STAGES):
            preview = _data_uri(_jpeg(_blurred(picture, stage)))
            yield event("in_progress", f"{12 * stage + 1}.50", preview=preview)
        url = f"https://storage.dryapi.dev/results/{request_id}.jpg?signature="
        yield event("done", "100.00", result_url=url + rng.randbytes(32).hex())

    def _side(self, number: int) -> int:
        """Take the side of the sandbox's picture of that size."""
        sharpest = [stages[-1] for stages in paint(self.preview_bytes).jpegs]
        with Image.open(BytesIO(sharpest[number % len(sharpest)])) as image:
            return image.width


def _changed(jpeg: bytes, rng: random.Random, side: int) -> Image.Image:
    """Make a picture of its own: another place, other colours, another size."""
    with Image.open(BytesIO(jpeg)) as opened:
        image = opened.convert("RGB")
    width = image.width
    image = ImageChops.offset(image, rng.randrange(width), rng.randrange(width))
    bands = list(image.rotate(90 * rng.randrange(4)).split())
    rng.shuffle(bands)
    image = Image.merge("RGB", bands).resize((side, side))
    grain = Image.frombytes("L", (side, side), rng.randbytes(side * side))
    return Image.blend(image, grain.convert("RGB"), _GRAIN)


def _blurred(sharp: Image.Image, stage: int) -> Image.Image:
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
