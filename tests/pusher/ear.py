"""A listener that remembers what it was told, and holds the teller to its promises."""

from __future__ import annotations

from bridge.pusher.coverage import Interruption


class Ear:
    """What a session told of its hearing."""

    def __init__(self, *, is_set_back: bool = False) -> None:
        self.subscriptions: list[int] = []
        self.interruptions: list[Interruption] = []
        self._open = True
        self._is_set_back = is_set_back
        self._latest_us = 0

    def subscribed(self, at_us: int) -> None:
        """Hear of a subscription."""
        assert self._open, "a second subscription without an interruption"
        assert at_us >= self._latest_us, "a subscription before what it ends"
        self.subscriptions.append(at_us)
        self._open = False
        self._latest_us = at_us

    def interrupted(self, interruption: Interruption) -> None:
        """Hear of an interruption."""
        assert self.subscriptions, "an interruption of nothing"
        assert not self._open, "an interruption within an interruption"
        assert interruption.since_us > 0
        assert self._is_set_back or interruption.since_us >= self._latest_us
        self._latest_us = interruption.since_us
        if interruption.until_us is not None:
            assert interruption.until_us >= interruption.since_us
            self._latest_us = interruption.until_us
        self._open = interruption.until_us is None
        self.interruptions.append(interruption)
