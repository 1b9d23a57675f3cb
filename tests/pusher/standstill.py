"""
A consumer that stands still: an outbox whose disk takes nothing for a while.

It is what a session delivers to in the service, without the service: events become
records of an outbox whose thread doesn't run yet, and the session stands back as
the service lets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bridge.accounts import BackpressureGate
from bridge.events.record import Envelope, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.records import Loss
from bridge.pusher.protocol import ChannelEvent
from bridge.settings import OutboxSettings
from tests.outbox.making import eventually, threaded


_ENVELOPE = Envelope("https://api.test/clients/7", "a.type", "socket", "text/plain")


class Standstill:
    """
    Takes events, and writes none of them until `resume`.

    Attributes:
        outbox: Where they wait.
        losses: What the outbox told of records that it gave up.
        pause: To be awaited after each delivery.
    """

    def __init__(self, directory: OutboxDirectory, buffer_bytes: int) -> None:
        self.losses: list[Loss] = []
        self.outbox = Outbox(
            directory,
            OutboxSettings(dir=directory.path, buffer_bytes=buffer_bytes),
            on_loss=self.losses.append,
        )
        self.pause = BackpressureGate(self.outbox.is_crowded).wait

    def deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        """Take a run, as a session gives it."""
        self.outbox.offer(
            [
                Record("jobs", b"job", event.original, received_at_us, _ENVELOPE)
                for event in events
            ]
        )

    def resume(self, then_us: int) -> None:
        """Let the disk work, one more record come, and all be written."""
        with threaded(self.outbox):
            eventually(lambda: self.outbox.drained)
            self.outbox.offer([Record("jobs", b"job", b"last", then_us, _ENVELOPE)])
            eventually(lambda: self.outbox.drained)


@contextmanager
def standstill(path: Path, *, buffer_bytes: int) -> Iterator[Standstill]:
    """Open an outbox in a folder and let it stand."""
    with OutboxDirectory(path) as directory:
        yield Standstill(directory, buffer_bytes)
