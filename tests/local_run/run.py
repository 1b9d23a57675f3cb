"""
The run itself: what starts in which order, what is watched, how all of it ends.

Owns the nursery and the order: Kafka, sandbox, bridge, board, reader; and back. The
parts stand in the modules beside it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from rich.text import Text

from bridge.consumer.live import follow_table
from bridge.kafka.reading.reader import Edge, TopicReader
from bridge.settings import KafkaSettings
from tests.kit import downloads
from tests.kit.broker import KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer, start_kafka
from tests.kit.process import ChildProcess, free_ports
from tests.local_run import children
from tests.local_run.children import (
    board_child,
    bridge_child,
    running,
    sandbox_child,
    webhook_url,
)
from tests.local_run.endpoints import Board, Bridge, EndpointError, Sandbox
from tests.local_run.guide import Addresses, guide
from tests.local_run.ledger import Ledger
from tests.local_run.screen import Numbers, Screen, head, numbers_line
from tests.local_run.summary import Totals, summary_table
from tests.local_run.topics import count_records, delete_topics


__all__ = ["Options", "run"]

# For the events that are on their way when the emission stops.
_DRAIN_SECONDS = 30.0
_LOOK_SECONDS = 0.25
_LINE_SECONDS = 2.0
# The bridge must not outlive a stop because the sandbox doesn't answer.
_EMISSION_STOP_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """
    What the command line says.

    Attributes:
        seconds: How long the sandbox emits until the run ends by itself; None
            runs until it is stopped.
        rate: Events a second.
    """

    seconds: float | None
    rate: float


T = TypeVar("T")


class _Run:
    """One run: its parts, once they are started."""

    def __init__(self, options: Options, screen: Screen, folder: Path) -> None:
        self._options = options
        self._screen = screen
        self._folder = folder
        sandbox_port, health_port, webhook_port, board_port = free_ports(4)
        self._sandbox_port, self._health_port = sandbox_port, health_port
        self._webhook_port, self._board_port = webhook_port, board_port
        self._sandbox = Sandbox(sandbox_port)
        self._bridge = Bridge(health_port)
        self._board = Board(board_port)
        self._children: list[ChildProcess] = []
        self._numbers = Numbers()
        self._ledger = Ledger()
        self._stopping_at: float | None = None

    async def run(self) -> bool:
        """
        Start everything, watch it, and end it.

        Returns:
            Whether the counts agree; True for a run that was not asked to end.
        """
        async with self._told_end(), AsyncExitStack() as stack:
            kafka, topic = await self._start_kafka(stack)
            await self._start_children(stack, kafka, topic)
            settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
            # From the beginning, so that the count is that of the topic.
            reader = await stack.enter_async_context(
                TopicReader(settings, [topic], start=Edge.BEGINNING)
            )
            addresses = Addresses(
                kafka.bootstrap_servers,
                topic,
                self._board.url,
                self._sandbox.url,
                self._bridge.url,
                webhook_url(self._webhook_port),
            )
            for line in guide(addresses):
                self._screen.say(line)
            stack.callback(self._tell_stop)
            # Not before the reader is open: no delay shall be that of a start.
            await _in_thread(partial(self._sandbox.emit, self._options.rate))
            drained = await self._watch(reader, addresses)
            if self._options.seconds is None:
                return True
            return await self._sum_up(kafka.bootstrap_servers, topic) and drained

    def _tell_stop(self) -> None:
        self._stopping_at = trio.current_time()
        self._screen.say("Stopping ...")

    @asynccontextmanager
    async def _told_end(self) -> AsyncIterator[None]:
        """Say how long the stop took, once all has ended."""
        try:
            yield
        finally:
            if self._stopping_at is not None:
                seconds = trio.current_time() - self._stopping_at
                self._screen.say(f"Everything has stopped: {seconds:.1f} s")

    async def _start_kafka(self, stack: AsyncExitStack) -> tuple[KafkaBroker, str]:
        """Start a Kafka of our own, or take the one that the environment names."""
        existing = existing_kafka()
        if existing is not None:
            await trio.to_thread.run_sync(existing.check)
            # Somebody else's topics are left alone, and ours don't stay.
            topic = f"jobs-{uuid.uuid4().hex[:8]}"
            stack.push_async_callback(_delete_topics, existing, topic)
            self._screen.say(f"Kafka at {existing.bootstrap_servers} is used")
            return existing, topic

        async def fetch_and_start() -> KafkaServer:
            # A download is given up at once when the run is stopped.
            await _in_thread(partial(downloads.fetch_kafka, self._screen.say))
            return await stack.enter_async_context(start_kafka())

        server = await self._screen.step("Starting Kafka", fetch_and_start)
        self._children += [node.process for node in server._nodes]
        return server, "jobs"

    async def _start_children(
        self, stack: AsyncExitStack, kafka: KafkaBroker, topic: str
    ) -> None:
        """Start the sandbox, the bridge, and the board when its topics are there."""
        sandbox = sandbox_child(
            self._folder / "sandbox",
            self._sandbox_port,
            webhook_port=self._webhook_port,
        )
        bridge = bridge_child(
            self._folder / "bridge",
            sandbox=self._sandbox,
            kafka=kafka.bootstrap_servers,
            topic=topic,
            port=self._health_port,
            webhook_port=self._webhook_port,
        )
        board = board_child(
            self._folder / "board",
            kafka=kafka.bootstrap_servers,
            topic=topic,
            port=self._board_port,
        )
        for title, child, grace_seconds in (
            ("Starting the sandbox", sandbox, children.SANDBOX_GRACE_SECONDS),
            ("Starting the bridge", bridge, children.BRIDGE_GRACE_SECONDS),
            ("Starting the board", board, children.BOARD_GRACE_SECONDS),
        ):
            context = running(child, grace_seconds)
            await self._screen.step(title, partial(stack.enter_async_context, context))
            self._children.append(child)
        # Ends before the bridge does, so that nothing is emitted to nobody.
        stack.push_async_callback(self._stop_emission)

    async def _stop_emission(self) -> None:
        """Stop the sandbox's events, if it still answers."""
        with trio.move_on_after(_EMISSION_STOP_SECONDS, shield=True):
            try:
                await _in_thread(partial(self._sandbox.emit, 0.0))
            except EndpointError as error:
                self._screen.say(f"The emission could not be stopped: {error}")

    async def _watch(self, reader: TopicReader, addresses: Addresses) -> bool:
        """Show the jobs until the time is over; tell whether all arrived."""
        drained = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_children)
            nursery.start_soon(self._ask)
            if self._screen.is_live:
                nursery.start_soon(self._show_table, reader, addresses)
            else:
                nursery.start_soon(self._consume, reader)
                nursery.start_soon(self._show_lines)
            if self._options.seconds is None:
                # The run's owner cancels it when a signal comes.
                await trio.sleep_forever()
            else:
                await trio.sleep(self._options.seconds)
                drained = await self._drain()
            nursery.cancel_scope.cancel()
        return drained

    async def _watch_children(self) -> None:
        """Fail when a process ends that nobody ended."""
        while True:
            error = children.stopped_by_itself(self._children)
            if error is not None:
                raise error
            await trio.sleep(_LOOK_SECONDS)

    async def _ask(self) -> None:
        """Keep the numbers of sandbox and bridge up to date."""
        while True:
            # A process that doesn't answer is `_watch_children`'s business when it
            # is gone, and nothing to stop for when it is only busy.
            try:
                self._numbers.emitted = await _in_thread(self._sandbox.emitted)
                self._numbers.bridge = await _in_thread(self._bridge.numbers)
            except EndpointError:
                pass
            await trio.sleep(_LOOK_SECONDS)

    async def _show_table(self, reader: TopicReader, addresses: Addresses) -> None:
        def lines() -> list[Text]:
            return head(addresses, self._numbers, self._ledger)

        await follow_table(
            reader,
            addresses.topic,
            self._screen.console,
            head=lines,
            head_lines=len(lines()),
            observe=lambda records: self._ledger.observe(records, time.time()),
        )

    async def _consume(self, reader: TopicReader) -> None:
        async for records in reader:
            self._ledger.observe(records, time.time())

    async def _show_lines(self) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(_LINE_SECONDS)
            seconds = trio.current_time() - began
            line = numbers_line(self._numbers, self._ledger)
            self._screen.say(f"{seconds:4.0f} s  {line}")

    async def _drain(self) -> bool:
        """Stop the emission and wait until every event is where it belongs."""
        await _in_thread(partial(self._sandbox.emit, 0.0))
        emitted = self._numbers.emitted = await _in_thread(self._sandbox.emitted)
        with trio.move_on_after(_DRAIN_SECONDS):
            while True:
                # Before the bridge: what is delivered has been counted there.
                under_way = await _in_thread(self._sandbox.webhooks_under_way)
                bridge = await _in_thread(self._bridge.numbers)
                self._numbers.bridge = bridge
                arrived = self._ledger.consumed + bridge.dead_letters
                # What was emitted in a gap doesn't come; how much that was shows.
                if (
                    (bridge.read == emitted or bridge.gaps)
                    and bridge.published == arrived == bridge.read + bridge.healed
                    and not (under_way or bridge.waiting)
                ):
                    return True
                await trio.sleep(_LOOK_SECONDS)
        self._screen.say(f"Not all events arrived within {_DRAIN_SECONDS:g} s.")
        return False

    async def _sum_up(self, kafka: str, topic: str) -> bool:
        """Print the summary and tell whether its numbers agree."""
        on_topic, distinct = await _in_thread(partial(count_records, kafka, topic))
        letters, _ = await _in_thread(partial(count_records, kafka, f"{topic}.dlq"))
        bridge = await _in_thread(self._bridge.numbers)
        totals = Totals(
            emitted=await _in_thread(self._sandbox.emitted),
            read=bridge.read,
            healed=bridge.healed,
            gaps=bridge.gaps,
            on_topic=on_topic,
            distinct=distinct,
            consumed=self._ledger.consumed,
            dead_letters=bridge.dead_letters,
            on_dead_letter_topic=letters,
            waiting=bridge.waiting,
        )
        self._screen.console.print(summary_table(totals, self._ledger.delays()))
        for difference in totals.differences():
            self._screen.say(f"They don't agree: {difference}.")
        return not totals.differences()


async def run(options: Options, screen: Screen, folder: Path) -> bool:
    """
    Run the main job.

    Args:
        options: How long and how fast.
        screen: Where to speak.
        folder: For what the processes write; the caller removes it.

    Returns:
        Whether the counts agree.

    Raises:
        FetchError: Kafka can't be fetched.
        ProcessError: A process didn't start, or ended by itself.
        BrokerError: The existing broker doesn't answer.
        KafkaError: The topic can't be read.
        EndpointError: Sandbox or bridge don't answer at the end.
        CountError: The topic can't be counted.
    """
    return await _Run(options, screen, folder).run()


async def _in_thread(work: Callable[[], T]) -> T:
    """Do blocking work that has a deadline of its own; a cancelled run leaves it."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


async def _delete_topics(broker: KafkaBroker, topic: str) -> None:
    """Remove what a run has made on somebody else's broker."""
    # Shielded, since a cancelled run must clean up too; it has its own deadline.
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(delete_topics, broker, topic)
