"""A consumer that is stalled: an outbox whose disk writes nothing for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bridge.accounts import BackpressureGate
from bridge.events.record import Envelope, Record
from bridge.outbox import Outbox, OutboxDirectory
from bridge.outbox.values import Loss
from bridge.pusher.protocol import ChannelEvent
from bridge.settings import OutboxSettings
from tests.outbox.making import eventually, open_topics, threaded


_ENVELOPE = Envelope("https://api.test/clients/7", "a.type", "socket", "text/plain")


class Standstill:
    """Takes events, and writes none of them until `resume`."""

    def __init__(self, directory: OutboxDirectory, buffer_bytes: int) -> None:
        settings = OutboxSettings(dir=directory.path, buffer_bytes=buffer_bytes)
        self.losses: list[Loss] = []
        self.outbox = Outbox(directory, settings, on_loss=self.losses.append)
        self.pause = BackpressureGate(lambda: self.outbox.is_crowded).wait
        open_topics(self.outbox, "jobs")

    def deliver(self, events: Sequence[ChannelEvent], received_at_us: int) -> None:
        """Take a read's events, as a session gives them."""
        self._offer([event.original for event in events], received_at_us)

    def resume(self, then_us: int) -> None:
        """Let the disk work, one more record come, and all be written."""
        with threaded(self.outbox):
            eventually(lambda: self.outbox.is_drained)
            self._offer([b"last"], then_us)
            eventually(lambda: self.outbox.is_drained)

    def settles(self) -> bool:
        """Whether the loss is over; it is, a second after the last drop."""
        self.outbox.settle()
        return len(self.losses) > 1

    def _offer(self, values: Sequence[bytes], at_us: int) -> None:
        self.outbox.offer(
            [Record("jobs", b"job", value, at_us, _ENVELOPE) for value in values]
        )


@contextmanager
def standstill(path: Path, *, buffer_bytes: int) -> Iterator[Standstill]:
    """Open an outbox in a folder, without its thread."""
    with OutboxDirectory(path) as directory:
        disk = Standstill(directory, buffer_bytes)
        yield disk
        disk.outbox.close()
