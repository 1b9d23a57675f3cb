"""
Proofs that wait until all is on disk that was offered before them.

A proof says that everything had arrived up to a moment. Written too early it would
claim events that a crash takes out of memory. What it is for the gap ledger knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from bridge.outbox.buffer import Buffer


__all__ = ["Proofs"]

_NONE: Mapping[str, int] = {}

_Laid = tuple[int, Mapping[str, int]]


class Proofs:
    """
    Proofs between those who have them and the disk.

    Args:
        buffer: Where records wait that were offered.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._laid: deque[_Laid] = deque()
        # Those that wait for a mark of the buffer, and those that came later. They
        # are put together, so that a disk that is full for hours has two sets to
        # keep and not thousands.
        self._next: _Laid | None = None
        self._later: tuple[int, dict[str, int]] | None = None

    def lay(self, proofs: Mapping[str, int]) -> None:
        """Lay proofs down; belongs to the thread that offers records."""
        self._laid.append((self._buffer.mark, proofs))

    def due(self, in_hands: int) -> Mapping[str, int]:
        """
        Give proofs that hold once records that were taken are written.

        Args:
            in_hands: What those weigh of which nothing is held back.
        """
        if not self._laid and self._next is None:
            return _NONE
        while self._laid:
            mark, proofs = self._laid.popleft()
            known = {} if self._later is None else self._later[1]
            self._later = (mark, {**known, **proofs})
        if self._next is None:
            self._next, self._later = self._later, None
        assert self._next is not None
        mark, proofs = self._next
        return proofs if self._buffer.has_passed(mark, in_hands) else _NONE

    def all_due(self) -> Mapping[str, int]:
        """Give all that hold, those too that wait behind others, and forget them."""
        together: Mapping[str, int] = _NONE
        while due := self.due(0):
            together = {**together, **due}
            self.written()
        return together

    def written(self) -> None:
        """Forget what `due` gave last."""
        self._next, self._later = self._later, None
