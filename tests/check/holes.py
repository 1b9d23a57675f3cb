"""Ports behind which nobody answers: closed, deaf, or behind a firewall."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


# One fills the queue of length 0, the next ones see to it.
_FILLERS = 4


def closed_port() -> int:
    """Give a port of 127.0.0.1 where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """Give a port where packets are lost: its queue is full, and nobody empties it."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(_FILLERS):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
