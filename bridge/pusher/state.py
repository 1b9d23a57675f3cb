"""
Where a connection stands, and every step that may move it.

All transitions live in the table below and nowhere else. The file knows no
socket, no clock and no frame: it is told what happened and answers where the
connection stands now.

The way of a connection that works:

    DISCONNECTED -> CONNECTING -> ESTABLISHING -> AUTHORIZING
                 -> SUBSCRIBING -> SUBSCRIBED

- CONNECTING: name, TCP, TLS and the WebSocket upgrade are under way.
- ESTABLISHING: the socket is open; `pusher:connection_established`, which
  carries the socket id, has not come yet.
- AUTHORIZING: there is a socket id; dryAPI is asked for a signature over it.
- SUBSCRIBING: the signature has been sent; the server has not answered.
- SUBSCRIBED: events may come. The only state that counts as working.

Steps are of two kinds. Those we take ourselves must fit: one that doesn't is a
mistake in the bridge and raises. Those the server takes may come at any time,
twice, or forged by whoever may publish to a channel: one that doesn't fit
changes nothing and `advance` says so. That is why a repeated acknowledgement
has a row of its own (servers repeat it for a repeated subscription) and a
second `connection_established` has none.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto


__all__ = ["TRANSITIONS", "Lifecycle", "LocalStep", "RemoteStep", "State"]


class State(StrEnum):
    """Where a connection stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    ESTABLISHING = "establishing"
    AUTHORIZING = "authorizing"
    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"


class LocalStep(Enum):
    """What we did, or found out about our own socket."""

    DIALLED = auto()
    OPENED = auto()
    SUBSCRIBE_SENT = auto()
    ENDED = auto()


class RemoteStep(Enum):
    """What the server said."""

    ESTABLISHED = auto()
    ACKNOWLEDGED = auto()
    REJECTED = auto()


TRANSITIONS: dict[State, dict[LocalStep | RemoteStep, State]] = {
    State.DISCONNECTED: {
        LocalStep.DIALLED: State.CONNECTING,
    },
    State.CONNECTING: {
        LocalStep.OPENED: State.ESTABLISHING,
        LocalStep.ENDED: State.DISCONNECTED,
    },
    State.ESTABLISHING: {
        RemoteStep.ESTABLISHED: State.AUTHORIZING,
        LocalStep.ENDED: State.DISCONNECTED,
    },
    State.AUTHORIZING: {
        LocalStep.SUBSCRIBE_SENT: State.SUBSCRIBING,
        LocalStep.ENDED: State.DISCONNECTED,
    },
    State.SUBSCRIBING: {
        # Sent once more because nothing came: a late answer to the first is
        # as good as one to the second.
        LocalStep.SUBSCRIBE_SENT: State.SUBSCRIBING,
        RemoteStep.ACKNOWLEDGED: State.SUBSCRIBED,
        RemoteStep.REJECTED: State.AUTHORIZING,
        LocalStep.ENDED: State.DISCONNECTED,
    },
    State.SUBSCRIBED: {
        # Repeated to see that it stands. Until it is answered nothing changes, and
        # an error has no row: whoever may publish to the channel can forge it.
        LocalStep.SUBSCRIBE_SENT: State.SUBSCRIBED,
        RemoteStep.ACKNOWLEDGED: State.SUBSCRIBED,
        LocalStep.ENDED: State.DISCONNECTED,
    },
}


class Lifecycle:
    """
    One connection's place in the table.

    Attributes:
        state: Where it stands.
    """

    def __init__(self) -> None:
        self.state = State.DISCONNECTED

    def advance(self, step: LocalStep | RemoteStep) -> bool:
        """
        Take a step.

        Args:
            step: What happened.

        Returns:
            Whether the table has the step; if not, the state is unchanged.

        Raises:
            RuntimeError: A step of our own that doesn't fit: a bug.
        """
        target = TRANSITIONS[self.state].get(step)
        if target is not None:
            self.state = target
            return True
        if isinstance(step, RemoteStep):
            return False
        raise RuntimeError(f"{step.name} doesn't fit state {self.state}")
