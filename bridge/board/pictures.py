"""
The latest preview of each job, as bytes that a browser may be given.

Owns which previews are kept, and that each is a picture by its own bytes: nothing that
could hold a script is ever kept, whatever it is called.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

import msgspec

from bridge.events.preview import decode, sniff


__all__ = ["Picture", "Pictures"]

# What a picture takes beside its bytes, so that a million tiny ones are bounded too.
_OVERHEAD_BYTES: Final = 1_000

# No picture may have more than this part of the whole: some are always kept.
_PARTS: Final = 16

# What a data URI has beside the base64 of its image.
_HEAD_CHARACTERS: Final = 4_096


class Picture(msgspec.Struct, frozen=True, gc=False):
    """
    A preview's image.

    Attributes:
        version: Which of its job's: another picture has another number.
        content_type: What its bytes are.
        data: Its bytes.
    """

    version: int
    content_type: str
    data: bytes


class Pictures:
    """
    The latest picture of each job, those that came last.

    Args:
        most_bytes: How many bytes are kept in all.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._each_bytes = most_bytes // _PARTS
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        # Browsers keep pictures by these numbers for an hour, and a board that begins
        # anew must not give out another picture by one of them. JavaScript has whole
        # numbers up to 2**53.
        self._made = secrets.randbits(48)
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._pictures)

    def get(self, request_id: str) -> Picture | None:
        """Find a job's picture; None if none is kept."""
        return self._pictures.get(request_id)

    def read_text(self, request_id: str, text: str) -> Picture | str:
        """
        Read the picture out of an event's preview.

        Returns:
            The picture, or in a few words why there is none.
        """
        # Four characters carry three bytes: what is too large is not even decoded.
        if len(text) > self._each_bytes * 4 // 3 + _HEAD_CHARACTERS:
            return "too large to be shown"
        decoded = decode(text)
        if decoded is None:
            return "no image"
        return self.read_bytes(request_id, decoded[0])

    def read_bytes(self, request_id: str, data: bytes) -> Picture | str:
        """Take the bytes of a record of previews: as `read_text`."""
        if len(data) > self._each_bytes:
            return "too large to be shown"
        content_type = sniff(data)
        if content_type is None:
            return "no image"
        return self._keep(request_id, content_type, data)

    def forget(self, request_id: str) -> None:
        """Let a job's picture go, if one is kept."""
        picture = self._pictures.pop(request_id, None)
        if picture is not None:
            self.size_bytes -= len(picture.data) + _OVERHEAD_BYTES

    def let_go(self) -> list[str]:
        """
        Let the oldest pictures go until the rest has room.

        Returns:
            Whose they were.
        """
        gone = []
        while self.size_bytes > self._most_bytes:
            request_id, picture = self._pictures.popitem(last=False)
            self.size_bytes -= len(picture.data) + _OVERHEAD_BYTES
            gone.append(request_id)
        return gone

    def _keep(self, request_id: str, content_type: str, data: bytes) -> Picture:
        self.forget(request_id)
        self._made += 1
        picture = Picture(self._made, content_type, data)
        self._pictures[request_id] = picture
        self.size_bytes += len(data) + _OVERHEAD_BYTES
        return picture
