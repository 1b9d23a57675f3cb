"""What a board gets from its topics, and the updates as a page takes them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx  # noqa: TID251 - the browser of these tests


# What is no more than the beginning of one; pixels are nobody's business here.
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(90)


def preview(data: bytes = JPEG) -> str:
    """Make a data URI, as jobs send previews."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


class Page:
    """What a page makes of what it is told, as the protocol has it."""

    def __init__(self, snapshot: bytes) -> None:
        told = json.loads(snapshot)
        self.version: int = told["version"]
        self.jobs: dict[str, dict[str, Any]] = {one["id"]: one for one in told["jobs"]}
        self.matching: int = told["matching"]
        self.gaps: list[dict[str, Any]] = told["gaps"]
        self.letters: list[dict[str, Any]] = told["letters"]
        self.figures: dict[str, Any] = told["figures"]

    def take(self, update: bytes) -> None:
        """Take an update."""
        told = json.loads(update)
        self.version = told["version"]
        for gone in told["gone"]:
            del self.jobs[gone]
        self.jobs |= {one["id"]: one for one in told["jobs"]}
        self.matching = told["matching"]
        self.gaps = told.get("gaps", self.gaps)
        self.letters = told.get("letters", self.letters)
        self.figures = told["figures"]


def page_when(address: str, is_there: Callable[[Page], bool], seconds: float) -> Page:
    """Read a board's events until the page shows something."""
    deadline = time.monotonic() + seconds
    page: Page | None = None
    with httpx.stream(
        "GET", f"{address}events", trust_env=False, timeout=seconds
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            name, _, data = line.partition(": ")
            if name == "data":
                if page is None:
                    page = Page(data.encode())
                else:
                    page.take(data.encode())
                if is_there(page):
                    return page
            assert time.monotonic() < deadline, page and vars(page)
    raise AssertionError("the stream ended")
