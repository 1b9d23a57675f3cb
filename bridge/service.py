"""
The service: its tasks, their owners, and the order in which they stop.

Only this module connects the packages. A stop follows the data: first the socket
closes, then the buffer is written to disk, then the relay sends until its deadline.
What is left stays in the outbox for the next start.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from bridge import __version__
from bridge.accounts import Accounts, sources_of
from bridge.errors import RefusedError
from bridge.events import dead_letter
from bridge.events.intake import strip_preview
from bridge.events.record import Record
from bridge.gaps.ledger import Ledger
from bridge.healing import HealingTasks
from bridge.http.hosts import names_of
from bridge.http.server import serve
from bridge.http.tls import ReloadingContext
from bridge.kafka.relay.epoch import WireFormat
from bridge.kafka.relay.relay import Relay
from bridge.kafka.topics import topic_needs
from bridge.operations import logs
from bridge.operations.health import Health, LoopHeartbeat, Sources
from bridge.outbox import Outbox, OutboxDirectory
from bridge.pusher.recorder import Recorder
from bridge.settings import Settings
from bridge.text import hide
from bridge.threads import in_thread
from bridge.tracing import Tracing, open_tracing, secrets_in


if TYPE_CHECKING:
    from bridge.operations.metrics import Metrics


__all__ = ["run"]

_log = structlog.get_logger("bridge.service")

# How often a stop looks whether the buffer is on disk and the outbox empty.
_LOOK_SECONDS = 0.02

# The recorder gives its last write less than a second; a disk that hangs is left.
_RECORDER_GRACE_SECONDS = 1.0


async def run(
    settings: Settings,
    warnings: Sequence[str] = (),
    *,
    tls: ReloadingContext,
    record: Path | None = None,
) -> None:
    """
    Bridge dryAPI's events to Kafka until SIGTERM or SIGINT.

    A second signal ends it at once; nothing that is on disk is lost by that.

    Args:
        settings: All settings, checked.
        warnings: What was odd about them; goes into the log.
        tls: The context of connections to dryAPI.
        record: Where to write the wire down, if anywhere.

    Raises:
        RefusedError: DryAPI refuses every account: at once if none ever worked,
            else when that has lasted.
        KafkaRefusedError: Kafka refuses at a start that never worked.
        OutboxError: The outbox can't be used.
        ListenError: The health port can't be opened.
        ConfigError: A setting that only its use shows to be wrong.
    """
    logs.configure(settings.log.format, settings.log.level)
    for text in secrets_in(os.environ):
        hide(text)
    for warning in warnings:
        _log.warning("settings.odd", detail=warning)
    # Each client of a port takes a descriptor, and brokers need some: 1024, as most
    # systems start with, is for programs that use select().
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    tracing = open_tracing(settings, os.environ)
    recorder = None if record is None else Recorder(record, settings.pusher)
    with OutboxDirectory(settings.outbox.dir) as directory:
        await _Service(settings, tls, directory, recorder, tracing).run()


class _Service:
    """One process's rooms, wired."""

    def __init__(
        self,
        settings: Settings,
        tls: ReloadingContext,
        directory: OutboxDirectory,
        recorder: Recorder | None,
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings
        self._sources = sources_of(settings)
        self._tracing = tracing
        self._outbox = outbox = Outbox(
            directory,
            settings.outbox,
            strip_preview=strip_preview,
            refuse_late=_refuse_late(settings),
        )
        self._ledger = Ledger(
            settings.gap_topic,
            self._sources,
            outbox.keep,
            jobs_in_flight=self._jobs_in_flight,
        )
        outbox.on_loss = self._ledger.on_loss
        needs = topic_needs(settings)
        self._relay = Relay(
            settings.kafka,
            list(needs),
            outbox,
            dead_letter_topic=settings.dead_letter_topic,
            gap_topic=settings.gap_topic,
            delivery=settings.delivery,
            wire_format=_wire_format(settings),
            needs=needs,
            max_dead_letter_bytes=settings.limits.event_bytes,
            trace=None if tracing is None else tracing.published,
        )
        self._topics = list(needs)
        self._relay_ended = trio.Event()
        self._recorder = recorder
        self._accounts = Accounts(
            settings,
            tls,
            outbox,
            self._ledger,
            recorder,
            # Without tracing nothing lies between, and an event costs what it did.
            offer=outbox.offer if tracing is None else tracing.offering(outbox.offer),
        )
        self._healing = HealingTasks(settings, tls, outbox, self._ledger)
        self._refusal: RefusedError | None = None
        self._is_draining = False

    async def run(self) -> None:
        """Run everything until a signal or a failure, and stop in order."""
        self._accounts.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_relay)
            if self._recorder is not None:
                nursery.start_soon(
                    in_thread,
                    self._recorder.run,
                    self._recorder.stop,
                    _RECORDER_GRACE_SECONDS,
                )
            if self._tracing is not None:
                nursery.start_soon(self._tracing.run)
            await self._start_operations(nursery)
            async with trio.open_nursery() as intake:
                nursery.start_soon(
                    _watch_signals, intake.cancel_scope, nursery.cancel_scope
                )
                intake.start_soon(self._take_in, intake.cancel_scope)
            await self._drain()
            nursery.cancel_scope.cancel()
        statistics = self._outbox.statistics
        # Of events: gaps and previews are none, and these numbers are to add up.
        published = dict(self._relay.statistics.published)
        for topic in (self._settings.gap_topic, self._settings.preview_topic):
            published.pop(topic, None)
        _log.info(
            "service.stopped",
            read=self._accounts.events_read,
            recovered=sum(one.statistics.events for one in self._healing.intakes),
            superseded=statistics.superseded,
            published=sum(published.values()),
            waiting=statistics.rows,
            dropped=sum(statistics.dropped.values()),
        )
        if self._refusal is not None:
            raise self._refusal

    async def _start_operations(self, nursery: trio.Nursery) -> None:
        loop = LoopHeartbeat()
        healing = self._healing
        intakes = [*self._accounts.intakes, *healing.intakes]
        sources = Sources(
            [session.statistics for session in self._accounts.sessions],
            self._outbox.statistics,
            self._relay.statistics,
            loop,
            healing.limiters,
            healing.webhooks,
            [
                *(intake.statistics for intake in intakes),
                self._ledger.statistics,
                *healing.statistics,
            ],
        )
        nursery.start_soon(loop.beat)
        health = Health(sources, partial(_metrics, sources))
        operations = self._settings.operations
        hosts = [operations.address[0], *names_of(operations.hosts)]
        await nursery.start(serve, health.app(hosts), operations.listen)
        _log.info(
            "service.started",
            version=__version__,
            accounts=len(self._settings.all_accounts),
            topic=self._settings.topic,
            outbox=self._outbox.id,
            waiting=self._outbox.statistics.rows,
        )

    def _jobs_in_flight(self, client_id: str) -> int:
        return self._outbox.jobs.count(self._sources[client_id])

    async def _take_in(self, intake: trio.CancelScope) -> None:
        """Read accounts and webhooks, once there are partitions for what they bring."""
        # Only the first start waits: later ones know the partitions. No deadline: Kafka
        # is waited for, and where it refuses the relay ends the process.
        while not self._outbox.knows(self._topics):  # noqa: ASYNC110 - another thread
            await trio.sleep(_LOOK_SECONDS)
        async with trio.open_nursery() as nursery:
            # Before a socket is there: webhooks heal what it misses.
            await nursery.start(self._healing.run)
            nursery.start_soon(self._run_sessions, intake)

    async def _run_sessions(self, intake: trio.CancelScope) -> None:
        try:
            await self._accounts.run()
        except RefusedError as error:
            # Rows of an earlier run may wait: they get the relay's deadline.
            self._refusal = error
            intake.cancel()

    async def _run_relay(self) -> None:
        try:
            await self._relay.run()
        finally:
            self._relay_ended.set()
        if not self._is_draining:
            # A defect. Nothing would go to Kafka any more, and no line would say so;
            # what was read is on disk, and the next process carries it.
            raise RuntimeError("the relay has ended without being stopped")

    async def _drain(self) -> None:
        """Bring what was read to disk and, as far as the deadline lets, to Kafka."""
        self._is_draining = True
        statistics = self._outbox.statistics
        deadline = self._settings.shutdown_timeout_seconds
        self._outbox.report_losses(at_end=True)
        _log.info(
            "service.stopping", waiting=statistics.rows, deadline_seconds=deadline
        )
        with trio.move_on_after(deadline):
            # The threads of outbox and relay change what is looked at. Where nothing
            # can be written, not even acknowledgements, waiting changes nothing.
            while not (self._outbox.is_drained or self._outbox.is_stuck):  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            self._relay.drain()
            pointless = self._waits_for_nothing()
            while not (  # noqa: ASYNC110
                pointless
                or statistics.rows == 0
                or self._relay_ended.is_set()
                or self._outbox.is_stuck
            ):
                await trio.sleep(_LOOK_SECONDS)

    def _waits_for_nothing(self) -> bool:
        """
        Whether a stop would wait for a Kafka that never answered, with nothing to send.

        The gap of this start always waits; it has time until the next one.
        """
        if self._relay.statistics.ever_connected:
            return False
        counts = self._outbox.statistics.topics
        waiting = {topic for topic, count in counts.items() if count.waiting}
        return waiting <= {self._settings.gap_topic}


async def _watch_signals(
    intake: trio.CancelScope, everything: trio.CancelScope
) -> None:
    """Stop in order at the first signal, at once at the second."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        # No deadline: most processes get one signal in their life.
        async for number in signals:
            _log.info("service.signal", signal=signal.Signals(number).name)
            if intake.cancel_called:
                everything.cancel()
            intake.cancel()


def _metrics(sources: Sources) -> Metrics:
    # Imported when needed: prometheus_client takes 15 ms.
    from bridge.operations.metrics import Metrics  # noqa: PLC0415

    return Metrics(sources)


def _wire_format(settings: Settings) -> WireFormat | None:
    if settings.schema_registry.url is None:
        return None
    # Imported when needed: the schemas and the client take 12 ms.
    from bridge.schemas.registry import SchemaRegistry  # noqa: PLC0415

    return SchemaRegistry(settings)


def _refuse_late(settings: Settings) -> Callable[[Record], Record] | None:
    """What becomes of an event that comes after its job's last one."""
    if settings.after_terminal == "publish":
        return None
    return partial(
        dead_letter.late,
        topic=settings.dead_letter_topic,
        max_bytes=settings.limits.event_bytes,
    )
