"""An image is what its bytes say, and only five kinds are let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.previews.sniffing import CONTENT_TYPES, sniff
from tests.previews.images import KINDS, image


@pytest.mark.parametrize("kind", CONTENT_TYPES)
@pytest.mark.parametrize("side", [1, 16, 300])
def test_a_real_image_is_known(kind: str, side: int) -> None:
    """What another library writes is known for what it is."""
    assert sniff(image(kind, side)) == kind


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("image/jpeg", {"progressive": True}),
        ("image/png", {"optimize": True}),
        ("image/webp", {"lossless": True}),
        ("image/webp", {"exact": True}),
        ("image/gif", {"interlace": False}),
    ],
)
def test_each_variant_of_a_kind_is_known(kind: str, options: dict[str, bool]) -> None:
    """Progressive, lossless, extended: the beginning differs, the kind doesn't."""
    assert sniff(image(kind, 16, **options)) == kind


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_an_image_that_is_cut_off_is_known_by_its_beginning(kind: str) -> None:
    """A preview that is still being made may lack its end, but not its begin."""
    data = image(kind)
    assert sniff(data[:64]) == kind
    assert sniff(data[:3]) is None
    assert sniff(b"\n" + data) is None


def test_the_kinds_are_those_of_the_tests() -> None:
    """The list is closed: whoever adds a kind adds an image of it."""
    assert set(CONTENT_TYPES) == set(KINDS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        b"<?xml version='1.0'?><svg/>",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"%PDF-1.7\n",
        b"BM" + bytes(60),
        b"II*\x00" + bytes(60),
        b"\x00\x00\x01\x00\x01\x00" + bytes(60),
        # The pattern of a kind, and something else behind it.
        b"\xff\xd8\xff",
        b"\xff\xd8\xff<script>alert(1)</script>",
        b"\xff\xd8\xff\xd9\x00\x10",
        b"\xff\xd8\xff\xe0\x00\x01",
        b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
        image("image/png")[:24] + b"\x07" + image("image/png")[25:],
        b"GIF89a",
        b"GIF88a" + bytes(60),
        b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(60),
        b"RIFF\x24\x00\x00\x00WEBPJUNK" + bytes(60),
        # The same container for a film, and a box that doesn't hold what it says.
        b"\x00\x00\x00\x14ftypmp42\x00\x00\x00\x00isom" + bytes(60),
        b"\x00\x00\x10\x00ftypavif\x00\x00\x00\x00" + bytes(60),
        b"\x00\x00\x00\x11ftypavif\x00\x00\x00\x00" + bytes(60),
        b"\x00\x00\x00\x08ftypavif",
        b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00avif",
    ],
)
def test_anything_else_is_no_image(data: bytes) -> None:
    """Whatever could hold a script, or only begins like a picture, is refused."""
    assert sniff(data) is None


def test_avif_is_known_by_a_compatible_brand_too() -> None:
    """Some encoders name the container first."""
    box = b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00miafavif"
    assert sniff(box) == "image/avif"


@given(st.binary(), st.sampled_from([*(image(kind)[:24] for kind in KINDS), b""]))
def test_no_bytes_break_it(data: bytes, begin: bytes) -> None:
    """One of the kinds or none."""
    assert sniff(begin + data) in {*CONTENT_TYPES, None}
