"""
The image that a preview holds, and the error where it holds none.

Owns the order of the questions: can it be decoded, what is it, is it too large.
"""

from __future__ import annotations

import hashlib
from typing import NoReturn

import msgspec

from bridge.errors import DeadLetterReason, InvalidPreviewError
from bridge.previews.decoding import UndecodableError, decode
from bridge.previews.sniffing import CONTENT_TYPES, SYNONYMS, sniff


__all__ = ["Image", "read_image"]


class Image(msgspec.Struct, frozen=True, gc=False):
    """
    A preview's image.

    Attributes:
        data: Its bytes.
        content_type: What they are: one of `sniffing.CONTENT_TYPES`.
        sha256: Their digest as hex, by which a job's record refers to them.
        is_mislabelled: Whether the preview said that they are something else.
    """

    data: bytes
    content_type: str
    sha256: str
    is_mislabelled: bool


def read_image(text: str, max_bytes: int, request_id: str) -> Image:
    """
    Read the image of a preview.

    Args:
        text: The preview, a data URI or base64.
        max_bytes: How large the image may be.
        request_id: Whose it is.

    Raises:
        InvalidPreviewError: It holds no image of a kind that is let through, or too
            large a one.
    """

    def refuse(reason: DeadLetterReason, problem: str) -> NoReturn:
        raise InvalidPreviewError(
            reason, problem, original=text.encode(), request_id=request_id
        )

    try:
        data, claimed = decode(text)
    except UndecodableError as error:
        problem = f"the preview {error}"
    else:
        content_type = sniff(data)
        problem = (
            f"the preview is none of {', '.join(CONTENT_TYPES)} by its first bytes"
            if content_type is None
            else ""
        )
    # Outside of the handler: an error that is kept must not keep another one.
    if problem or content_type is None:
        refuse(DeadLetterReason.INVALID_PREVIEW, problem)
    if len(data) > max_bytes:
        refuse(
            DeadLetterReason.TOO_LARGE,
            f"the preview's image has {len(data)} bytes, more than {max_bytes}",
        )
    claims_another = claimed is not None and (
        SYNONYMS.get(claimed, claimed) != content_type
    )
    digest = hashlib.sha256(data).hexdigest()
    return Image(data, content_type, digest, claims_another)
