"""
What accounts have asked of the status endpoint, on its way to disk.

Of each account the last word counts, so that a disk that takes nothing for hours has no
more than that to wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from bridge.outbox.records import Spent


__all__ = ["Spending"]


class Spending:
    """The last words; any thread lays them down, one writes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._laid: dict[str, Spent] = {}

    def lay(self, spent: Mapping[str, Spent]) -> None:
        """Lay down what accounts have asked, by `ce_source`."""
        with self._lock:
            self._laid.update(spent)

    def due(self) -> Mapping[str, Spent]:
        """Give all that isn't written."""
        if not self._laid:
            return {}
        with self._lock:
            return dict(self._laid)

    def written(self, spent: Mapping[str, Spent]) -> None:
        """Forget what `due` gave, if nothing was laid down since."""
        if not spent:
            return
        with self._lock:
            for ce_source, asked in spent.items():
                if self._laid.get(ce_source) is asked:
                    del self._laid[ce_source]
