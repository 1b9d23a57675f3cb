"""
When the outbox's thread gets up: at once, soon, or not more often than it pays.

Only the waiting is decided here; what there is to do lies in `inbox`.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress


__all__ = ["Bell"]

# What can wait is seen after so long at the latest. An acknowledgement lost in a
# crash costs the next start as little as reading so much of the log.
_PATIENCE_SECONDS = 0.025

# Rounds begin no more often than this while nothing is left over from the last one:
# each costs two threads a wake-up, a commit and a request to Kafka. It is the most
# that an event waits for others; one that comes alone waits for nothing. A session
# reads its socket at the same pace (`pusher.pace`), and its runs wait here no more.
_PACE_SECONDS = 0.003


class Bell:
    """Any thread rings, one waits."""

    def __init__(self) -> None:
        # Free while somebody rang: half the price of `threading.Event`.
        self._silence = threading.Lock()
        self._silence.acquire()
        self._rang = False
        self._hinted = False
        self._sleeps = False
        self._heard_at = 0.0

    def ring(self) -> None:
        """Say that there is something to be done now."""
        if not self._rang:
            self._rang = True
            # RuntimeError: another thread was faster.
            with suppress(RuntimeError):
                self._silence.release()

    def hint(self) -> None:
        """Say that there is something to be done soon: it goes with what rings."""
        self._hinted = True
        if self._sleeps:
            self.ring()

    def wait(self, timeout_seconds: float) -> None:
        """Wait for a ring, or for a hint that has waited long enough."""
        if not self._silence.acquire(timeout=_PATIENCE_SECONDS) and not self._hinted:
            self._sleeps = True
            # Looked at once more: a hint before that didn't ring.
            if not self._hinted:
                self._silence.acquire(timeout=timeout_seconds)
            self._sleeps = False
        early_seconds = self._heard_at + _PACE_SECONDS - time.monotonic()
        if early_seconds > 0:
            time.sleep(early_seconds)

    def listen(self) -> None:
        """Hear rings from now on; before one looks at what is there."""
        # In this order: a ring in between finds that somebody rang, and what it is
        # about is looked at afterwards. The other way round it would free a lock that
        # is taken at once, and no later ring would free it again.
        self._silence.acquire(blocking=False)
        self._rang = self._hinted = False
        self._heard_at = time.monotonic()
