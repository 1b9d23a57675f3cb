"""The pictures are real, of about the wanted size, and sharpen."""

from __future__ import annotations

import base64
import statistics
from io import BytesIO

import pytest
from PIL import Image, ImageFilter, ImageStat

from bridge.sandbox.previews import STAGES, paint


def _detail(jpeg: bytes) -> float:
    image = Image.open(BytesIO(jpeg)).convert("L")
    return float(ImageStat.Stat(image.filter(ImageFilter.FIND_EDGES)).stddev[0])


@pytest.mark.parametrize("wanted", [600, 3_000, 60_000])
def test_previews_are_jpegs_of_about_the_wanted_size(wanted: int) -> None:
    """The sharpest preview comes near the size; the smallest JPEG bounds it below."""
    pictures = paint(wanted)
    for previews in pictures.previews:
        assert len(previews) == STAGES
        assert wanted * 0.7 < len(previews[-1]) < wanted * 1.5
        kind, _, encoded = previews[0].partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(BytesIO(base64.b64decode(encoded))).format == "JPEG"


def test_previews_sharpen() -> None:
    """Every few stages there is more to see."""
    for jpegs in paint(10_000).jpegs:
        detail = [_detail(jpeg) for jpeg in jpegs]
        early, late = statistics.mean(detail[:3]), statistics.mean(detail[-3:])
        assert late > early * 1.2
        assert detail[-1] == max(detail)


def test_a_jobs_picture_is_always_the_same() -> None:
    """The picture follows from the id, and ids use all of them."""
    pictures = paint(600)
    ids = [f"00000000-0000-4000-8000-{number:012x}" for number in range(60)]
    numbers = [pictures.number_of(each) for each in ids]
    assert numbers == [pictures.number_of(each) for each in ids]
    assert set(numbers) == set(range(len(pictures.results)))
