"""
Faults on command: what is wrong with the sandbox now, and until when.

State alone, on trio's clock. Who asks for a fault stands in `control`, what one
does in `websocket` and `dryapi`.
"""

from __future__ import annotations

import math
import random
from typing import Literal

import trio


__all__ = ["Refusal", "SocketFaults", "StatusFaults"]

# How a new connection is turned away: the upgrade is answered with 503, the
# connection is reset, or `pusher:error` 4200 follows the upgrade.
Refusal = Literal["http", "reset", "error"]


class SocketFaults:
    """Whether new WebSocket connections are turned away."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._by: Refusal = "http"

    def refuse(self, seconds: float, by: Refusal) -> None:
        """Turn away for so long from now on; 0 ends it."""
        self._until, self._by = trio.current_time() + seconds, by

    def refusal(self) -> Refusal | None:
        """Say how a connection that comes now is turned away; None lets it in."""
        return self._by if trio.current_time() < self._until else None


class StatusFaults:
    """Whether the status endpoint answers with a server's error."""

    def __init__(self, seed: int | None) -> None:
        self._rng = random.Random(seed)
        self._until = -math.inf
        self._share = 0.0
        self._code = 503

    def fail(self, seconds: float, share: float, code: int) -> None:
        """
        Fail for so long from now on; 0 ends it.

        Args:
            seconds: How long.
            share: Which share of the calls fails, from 0 to 1.
            code: What they are answered with.
        """
        self._until = trio.current_time() + seconds
        self._share, self._code = share, code

    def code(self) -> int | None:
        """Say what the call that comes now is answered with; None: as always."""
        if trio.current_time() < self._until and self._rng.random() < self._share:
            return self._code
        return None
