"""
What a preview costs the board that gives it out: browsers fetch each one once.

Owns the fetching, over one connection that is kept, and the division.
"""

from __future__ import annotations

from contextlib import aclosing, closing
from http import HTTPStatus
from http.client import HTTPConnection

import msgspec
import psutil
import trio

from benchmarks.board.figures import Fetched
from benchmarks.board.stream import Stream
from benchmarks.course import RunError


__all__ = ["fetch", "paths_of"]

# The system counts CPU in steps of 10 ms: this is some fifty of them.
_FETCHES = 2_000
_ANSWER_SECONDS = 10.0


def fetch(port: int, pid: int) -> Fetched:
    """
    Fetch previews one after the other.

    Args:
        port: Of a board at rest that shows some.
        pid: Its process.

    Raises:
        RunError: It shows none, or gives one out no longer.
    """
    paths = paths_of(trio.run(_snapshot, port))
    if not paths:
        raise RunError("the board shows no previews")
    process = psutil.Process(pid)
    size = 0
    # A board ends a connection after a thousand requests; http.client opens another.
    with closing(HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)) as kept:
        before = process.cpu_times()
        for number in range(_FETCHES):
            kept.request("GET", paths[number % len(paths)])
            answer = kept.getresponse()
            size += len(answer.read())
            if answer.status != HTTPStatus.OK:
                raise RunError(f"a preview that is shown is answered {answer.status}")
        after = process.cpu_times()
    seconds = after.user + after.system - before.user - before.system
    return Fetched(seconds * 1e6 / _FETCHES, size / _FETCHES)


def paths_of(snapshot: bytes) -> list[str]:
    """Give the paths of all previews of a snapshot whose ids need no encoding."""
    return [
        f"/previews/{job['id']}?v={job['preview']['version']}"
        for job in msgspec.json.decode(snapshot)["jobs"]
        if job["preview"] is not None
    ]


async def _snapshot(port: int) -> bytes:
    with trio.fail_after(_ANSWER_SECONDS):
        async with aclosing(Stream(port).messages()) as messages:
            async for told in messages:
                return told.data
    raise RunError("the board tells nothing")
