"""The end of serving: requests that are under way have a moment left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio


__all__ = ["Grace"]

# An answer takes milliseconds; a client that needs longer is not waited for.
_GRACE_SECONDS = 1.0


class Grace:
    """Keeps requests from being cancelled with the port, until it has run out."""

    def __init__(self) -> None:
        self._requests: set[trio.CancelScope] = set()
        self._ends_at = math.inf

    @property
    def has_begun(self) -> bool:
        """Whether serving ends, so that no connection is kept for another request."""
        return self._ends_at < math.inf

    def begin(self) -> None:
        """Start the clock for every request."""
        self._ends_at = trio.current_time() + _GRACE_SECONDS
        for request in self._requests:
            request.deadline = self._ends_at

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Work on a request, within the block, which ends early with the grace."""
        # One that came at the same moment as the end has its grace too.
        with trio.CancelScope(shield=True, deadline=self._ends_at) as request:
            self._requests.add(request)
            try:
                yield
            finally:
                self._requests.discard(request)
