"""
The page's own files: read once, and given out by their names.

Owns which files there are and what they are: no request's path ever reaches the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response


__all__ = ["PageFile", "page_files"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_FOLDER: Final = Path(__file__).parent / "page"


class PageFile:
    """
    One of the page's files.

    Args:
        data: Its bytes.
        content_type: What they are.
    """

    def __init__(self, data: bytes, content_type: str) -> None:
        self._data = data
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        # A browser asks each time: after an upgrade no old module meets a new one.
        self._headers = {
            "Cache-Control": "no-cache",
            "Content-Type": content_type,
            "ETag": etag,
        }

    async def answer(self, request: Request) -> Response:
        """Give it, unless the browser has it already."""
        had = request.headers.get("if-none-match", "")
        # A proxy that compresses marks it as weak.
        known = {one.strip().removeprefix("W/") for one in had.split(",")}
        if self._headers["ETag"] in known:
            return Response(status_code=304, headers=self._headers)
        return Response(self._data, headers=self._headers)


def page_files(folder: Path = _FOLDER) -> Mapping[str, PageFile]:
    """Read all files of the page; give each by its path, `/` for the page itself."""
    files = {
        f"/{path.relative_to(folder).as_posix()}": PageFile(
            path.read_bytes(), _TYPES[path.suffix]
        )
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }
    if "/index.html" in files:
        files["/"] = files["/index.html"]
    return files
