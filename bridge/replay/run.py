"""
One replay, from its start to its end in order.

Owns what is started and stopped, and what a signal does. Which letters go is decided
in `bridge.consumer.dead_letters`, what becomes of their payloads in `shaping`, how
that reaches Kafka in `writer`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from bridge.consumer.dead_letters import Choice, Replaying, Tally
from bridge.errors import OutboxDirectoryError
from bridge.events.record import Record
from bridge.kafka.scan import Progress
from bridge.outbox import OutboxDirectory
from bridge.outbox.survey import is_for_replays, replayed_in
from bridge.outbox.values import RETENTION
from bridge.replay.shaping import Shaping
from bridge.replay.writer import StalledError, Writer
from bridge.settings import Settings


__all__ = ["Replayed", "directory_of", "replay"]

_log = structlog.get_logger("bridge.replay")


class Replayed(msgspec.Struct, frozen=True):
    """
    What a replay did.

    Attributes:
        tally: What became of the letters.
        trouble: Why it didn't come to its end; None where all letters were looked at
            and all that was written stands in Kafka.
        waiting: How many records wait in its outbox for the next run.
    """

    tally: Tally
    trouble: str | None = None
    waiting: int = 0


def directory_of(settings: Settings, given: Path | None) -> Path:
    """
    Give the replay's own outbox directory.

    Args:
        settings: The bridge's.
        given: What a person has chosen; None for the usual one, which lies inside
            the bridge's and so on the same volume.

    Raises:
        OutboxDirectoryError: It is a bridge's.
    """
    own = settings.outbox.dir
    directory = own / "replay" if given is None else given
    if directory.resolve() == own.resolve() or not is_for_replays(directory):
        raise OutboxDirectoryError(
            f"--outbox-dir: {directory} is the outbox directory of a bridge; a replay "
            "is a writer of its own and needs another one"
        )
    return directory


async def replay(  # noqa: PLR0913 - each is one independent choice of the caller
    settings: Settings,
    *,
    directory: Path,
    dead_letter_topic: str,
    since_ms: int | None = None,
    reason: str | None = None,
    is_dry: bool = False,
    on_progress: Callable[[str, Progress], None] = lambda _what, _progress: None,
) -> Replayed:
    """
    Carry dead letters to the topic of jobs that this version can read; none twice.

    SIGTERM or SIGINT ends it in order, a second one at once. Whatever ends it, the
    next run does the rest.

    Args:
        settings: Those of the scope `REPLAY`.
        directory: From `directory_of`.
        dead_letter_topic: Where they stand.
        since_ms: Only letters as young as that, milliseconds since the epoch.
        reason: Only letters of this reason.
        is_dry: Whether nothing is written, to disk or to Kafka.
        on_progress: Is told how far which reading has come.

    Raises:
        KafkaUnreachableError: Kafka doesn't answer.
        KafkaRefusedError: Kafka refuses: a topic is missing or may not be used.
        OutboxError: The outbox can't be used.
        ConfigError: A setting that only its use shows to be wrong.
    """
    choice = Choice(
        dead_letter_topic=dead_letter_topic,
        topic=settings.topic,
        since_ms=since_ms,
        reason=reason,
        ended_seconds=RETENTION.ended_seconds,
    )
    shape = Shaping(settings, dead_letter_topic).shape
    prepare = partial(Replaying, settings.kafka, choice, shape, on_progress=on_progress)
    if is_dry:
        return await _run(prepare(sink=_DrySink(directory)), None, 0.0)
    # Made as the bridge would make it, should none have run here yet.
    with suppress(OSError):
        settings.outbox.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with OutboxDirectory(directory) as locked:
        writer = Writer(settings, locked, dead_letter_topic)
        return await _run(
            prepare(sink=writer), writer, settings.shutdown_timeout_seconds
        )


async def _run(
    replaying: Replaying, writer: Writer | None, drain_seconds: float
) -> Replayed:
    trouble: str | None = "it was interrupted"
    async with trio.open_nursery() as nursery:
        if writer is not None:
            writer.start(nursery)
        with trio.CancelScope() as work:
            nursery.start_soon(_watch_signals, work, nursery.cancel_scope)
            try:
                await replaying.run()
                trouble = None
            except StalledError as error:
                trouble, drain_seconds = str(error), 0.0
        if writer is not None:
            await writer.drain(drain_seconds)
        nursery.cancel_scope.cancel()
    if writer is None or not writer.waiting:
        return Replayed(replaying.tally, trouble)
    _log.warning("replay.incomplete", waiting=writer.waiting, trouble=trouble)
    return Replayed(replaying.tally, trouble or "Kafka was too slow", writer.waiting)


async def _watch_signals(work: trio.CancelScope, everything: trio.CancelScope) -> None:
    """Stop in order at the first signal, at once at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        # No deadline: most runs get no signal at all.
        async for number in signals:
            _log.info("replay.signal", signal=signal.Signals(number).name)
            if work.cancel_called:
                everything.cancel()
            work.cancel()


class _DrySink:
    """Takes what would be replayed, and writes nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._taken: set[str] = set()

    async def known(self, ce_ids: Sequence[str]) -> set[str]:
        return replayed_in(self._directory, ce_ids)

    async def write(self, letters: Mapping[str, Sequence[Record]]) -> set[str]:
        new = letters.keys() - self._taken
        self._taken |= new
        return new

    async def settle(self) -> None:
        pass
