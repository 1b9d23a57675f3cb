"""From a preview's text to its image, or to why it is none."""

from __future__ import annotations

import hashlib

import pytest

from bridge.errors import DeadLetterReason, InvalidPreviewError
from bridge.previews import Image, read_image
from tests.previews.images import KINDS, SPELLINGS, data_uri, image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_kind_is_read_in_every_spelling(kind: str, spelling: str) -> None:
    """The same bytes, the same digest and the right type, however it is written."""
    data = image(kind)
    digest = hashlib.sha256(data).hexdigest()
    text = SPELLINGS[spelling](data, kind)
    assert read_image(text, len(data), "job") == Image(
        data, kind, digest, is_mislabelled=False
    )


@pytest.mark.parametrize(
    ("claimed", "is_mislabelled"),
    [
        ("image/png", True),
        ("text/html", True),
        ("image/jpeg", False),
        ("image/jpg", False),
        ("image/pjpeg", False),
        ("text/plain", False),
        ("application/octet-stream", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_bytes_decide_and_a_wrong_claim_is_told(
    claimed: str, *, is_mislabelled: bool
) -> None:
    """What the preview is called changes nothing but a note."""
    read = read_image(data_uri(image("image/jpeg"), claimed), 10_000, "job")
    assert read.content_type == "image/jpeg"
    assert read.is_mislabelled is is_mislabelled


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data:image/svg+xml,<svg/>", "the preview is none of image/jpeg, image/png"),
        (data_uri(b"hello", "image/jpeg"), "the preview is none of image/jpeg"),
        ("", "the preview is none of image/jpeg"),
        ("no image!", "the preview is no data URI and no base64"),
        ("data:image/png", "the preview is a data URI without a comma"),
    ],
)
def test_what_is_no_image_is_refused_with_its_text(text: str, problem: str) -> None:
    """The error has all that a dead letter needs."""
    with pytest.raises(InvalidPreviewError, match=problem) as caught:
        read_image(text, 10_000, "job")
    assert caught.value.reason is DeadLetterReason.INVALID_PREVIEW
    assert caught.value.original == text.encode()
    assert caught.value.request_id == "job"


def test_too_large_an_image_is_refused_as_that() -> None:
    """The limit is of the image's bytes; what is no image is none at any size."""
    data = image("image/png")
    assert read_image(data_uri(data), len(data), "job").data == data
    with pytest.raises(InvalidPreviewError, match=f"has {len(data)} bytes") as caught:
        read_image(data_uri(data), len(data) - 1, "job")
    assert caught.value.reason is DeadLetterReason.TOO_LARGE
    with pytest.raises(InvalidPreviewError) as caught:
        read_image("x" * 5000, 1000, "job")
    assert caught.value.reason is DeadLetterReason.INVALID_PREVIEW
