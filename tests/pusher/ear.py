"""A listener that remembers what it was told, and holds the teller to its promises."""

from __future__ import annotations

from bridge.pusher.interruption import Interruption


class Ear:
    """
    What a session told of its hearing.

    It raises when a session breaks what `Listener` promises to whoever listens.

    Attributes:
        subscriptions: When subscriptions were told (microseconds).
        interruptions: What may have been missed, in order.
    """

    def __init__(self) -> None:
        self.subscriptions: list[int] = []
        self.interruptions: list[Interruption] = []
        self._open = False

    def subscribed(self, at_us: int) -> None:
        """Hear of a subscription."""
        self.subscriptions.append(at_us)
        self._open = False

    def interrupted(self, interruption: Interruption) -> None:
        """Hear of an interruption."""
        assert self.subscriptions, "an interruption of nothing"
        assert not self._open, "an interruption within an interruption"
        assert interruption.since_us > 0
        if interruption.until_us is not None:
            assert interruption.until_us >= interruption.since_us
        self._open = interruption.until_us is None
        self.interruptions.append(interruption)
