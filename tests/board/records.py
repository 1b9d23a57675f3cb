"""What a board reads from its topics, and its messages as a page takes them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx  # noqa: TID251 - the browser of these tests


# No more than the beginning of one: no test looks at its pixels.
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(90)


def preview(data: bytes = JPEG) -> str:
    """Make a data URI, as jobs send previews."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


class Page:
    """What a page knows after a snapshot and its updates."""

    def __init__(self, snapshot: bytes | str) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.gaps: list[dict[str, Any]] = []
        self.dead_letters: list[dict[str, Any]] = []
        self.figures: dict[str, Any] = {}
        self.take(snapshot)

    def take(self, update: bytes | str) -> None:
        """Take an update."""
        message = json.loads(update)
        for gone in message.get("gone", ()):
            self.jobs.pop(gone, None)
        self.jobs |= {one["id"]: one for one in message["jobs"]}
        self.gaps = message.get("gaps", self.gaps)
        self.dead_letters = message.get("dead_letters", self.dead_letters)
        self.figures = message["figures"]


def page_when(address: str, is_there: Callable[[Page], bool], seconds: float) -> Page:
    """Read a board's events until the page shows something."""
    deadline = time.monotonic() + seconds
    page: Page | None = None
    name = ""
    with httpx.stream(
        "GET", f"{address}events", trust_env=False, timeout=seconds
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            field, _, data = line.partition(": ")
            name = data if field == "event" else name
            if field == "data":
                if page is None or name == "snapshot":
                    page = Page(data)
                else:
                    page.take(data)
                if is_there(page):
                    return page
            assert time.monotonic() < deadline, page and vars(page)
    raise AssertionError("the stream ended")
