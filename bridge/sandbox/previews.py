"""
Pictures for simulated jobs: previews that sharpen, and a result.

The only importer of Pillow. Everything is painted once, before the first job
starts; a job only points at a picture. Which job shows what stands in `jobs`.
"""

from __future__ import annotations

import base64
import math
import random
from functools import lru_cache
from io import BytesIO

import msgspec
from PIL import Image, ImageDraw, ImageOps


__all__ = ["STAGES", "Pictures", "paint"]

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

    Args:
        preview_bytes: About how long the sharpest preview is as a data URI.

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
