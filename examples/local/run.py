"""
The run itself: what starts in which order, what is watched, how all of it ends.

Owns the order: Kafka, sandbox, bridge, board, reader; and back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from rich.text import Text

from bridge.consumer.live import follow_table
from bridge.kafka.reader import Edge, TopicReader
from bridge.settings import KafkaSettings
from examples.local.counts import Consumed, Totals, summary_table
from examples.local.processes import (
    Addresses,
    BridgeNumbers,
    EndpointError,
    board_child,
    bridge_child,
    bridge_numbers,
    check_running,
    running,
    sandbox_child,
    sandbox_statistics,
    set_rate,
)
from examples.local.screen import Screen, guide, head, numbers_line
from tests.kit import downloads
from tests.kit.broker import KafkaBroker, existing_kafka
from tests.kit.kafka import KafkaServer
from tests.kit.process import ChildProcess, free_ports
from tests.kit.reader import read_topic


__all__ = ["run"]

# For the events that are on their way when the emission stops.
_DRAIN_SECONDS = 30.0
_READ_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_LINE_SECONDS = 2.0
# The bridge must not outlive a stop because the sandbox doesn't answer.
_EMISSION_STOP_SECONDS = 1.0

T = TypeVar("T")


async def run(seconds: float | None, rate: float, screen: Screen, folder: Path) -> bool:
    """
    Run the main job: start everything, watch it, and end it.

    Args:
        seconds: How long the sandbox emits until the run ends by itself; None runs
            until it is cancelled.
        rate: Events a second.
        screen: Where to write.
        folder: For the processes' files; the caller removes it.

    Returns:
        Whether the counts agree.
    """
    began: list[float] = []

    def stopping() -> None:
        began.append(trio.current_time())
        screen.say("Stopping ...")

    def stopped() -> None:
        for moment in began:
            seconds_since = trio.current_time() - moment
            screen.say(f"Everything has stopped: {seconds_since:.1f} s")

    async with AsyncExitStack() as stack:
        stack.callback(stopped)
        kafka, topic, children = await _start_kafka(screen, stack)
        ours = (f"127.0.0.1:{port}" for port in free_ports(4))
        addresses = Addresses(kafka.bootstrap_servers, topic, *ours)
        for title, child in (
            ("Starting the sandbox", sandbox_child(folder / "sandbox", addresses)),
            ("Starting the bridge", bridge_child(folder / "bridge", addresses)),
            ("Starting the board", board_child(folder / "board", addresses)),
        ):
            await screen.step(title, partial(stack.enter_async_context, running(child)))
            children.append(child)
        # Ends before the bridge does, so that nothing is emitted without a reader.
        stack.push_async_callback(_stop_emission, screen, addresses)
        settings = KafkaSettings(bootstrap_servers=addresses.kafka)
        # From the beginning, so that the count is that of the topic.
        reader = await stack.enter_async_context(
            TopicReader(settings, [topic], start=Edge.BEGINNING)
        )
        screen.say(guide(addresses))
        stack.callback(stopping)
        # Not before the reader is open: no delay shall be that of a start.
        await _in_thread(partial(set_rate, addresses, rate))
        watch = _Watch(screen, addresses, children)
        drained = await watch.run(reader, seconds)
        return await watch.sum_up() and drained


async def _start_kafka(
    screen: Screen, stack: AsyncExitStack
) -> tuple[KafkaBroker, str, list[ChildProcess]]:
    """Start a Kafka of our own, or take the one that the environment names."""
    existing = existing_kafka()
    if existing is not None:
        await trio.to_thread.run_sync(existing.check)
        # Others' topics stay, and ours don't stay.
        topic = f"jobs-{uuid.uuid4().hex[:8]}"
        stack.push_async_callback(_delete_topics, existing, topic)
        screen.say(f"Kafka at {existing.bootstrap_servers} is used")
        return existing, topic, []

    async def fetch_and_start() -> KafkaServer:
        # A download ends at once when the run is stopped.
        await _in_thread(partial(downloads.fetch_kafka, screen.say))
        server = KafkaServer()
        stack.push_async_callback(_close, server)
        await trio.to_thread.run_sync(
            lambda: server.start(checkpoint=trio.from_thread.check_cancelled)
        )
        return server

    server = await screen.step("Starting Kafka", fetch_and_start)
    return server, "jobs", [node.process for node in server._nodes]


async def _close(server: KafkaServer) -> None:
    """End a server of ours, even if the run was cancelled; it has its own deadline."""
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(server.close)


async def _delete_topics(broker: KafkaBroker, topic: str) -> None:
    """Remove the topics that the bridge has made on another's broker."""
    names = topic, f"{topic}.dlq", f"{topic}.gaps"
    # Shielded, since a cancelled run must clean up too; it has its own deadline.
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(lambda: broker.delete_topics(*names))


async def _stop_emission(screen: Screen, addresses: Addresses) -> None:
    """Stop the sandbox's events, if it still answers."""
    with trio.move_on_after(_EMISSION_STOP_SECONDS, shield=True):
        try:
            await _in_thread(partial(set_rate, addresses, 0.0))
        except EndpointError as error:
            screen.say(f"The emission could not be stopped: {error}")


async def _in_thread(work: Callable[[], T]) -> T:
    """Do blocking work that has a deadline of its own; a cancelled run leaves it."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


class _Watch:
    """Shows a run that has started, and counts it at its end."""

    def __init__(
        self, screen: Screen, addresses: Addresses, children: list[ChildProcess]
    ) -> None:
        self._screen = screen
        self._addresses = addresses
        self._children = children
        self._emitted = 0
        self._bridge = BridgeNumbers(0, 0, 0, 0, 0, 0)
        self._consumed = Consumed()

    async def run(self, reader: TopicReader, seconds: float | None) -> bool:
        """Show the jobs until the time is over; return whether all arrived."""
        drained = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask)
            if self._screen.is_live:
                nursery.start_soon(self._show_table, reader)
            else:
                nursery.start_soon(self._consume, reader)
                nursery.start_soon(self._show_lines)
            if seconds is None:
                # The run's owner cancels it when a signal comes.
                await trio.sleep_forever()
            else:
                await trio.sleep(seconds)
                drained = await self._drain()
            nursery.cancel_scope.cancel()
        return drained

    async def _ask(self) -> None:
        """Keep the numbers up to date, and fail when a process ends by itself."""
        while True:
            check_running(self._children)
            # One that is busy is asked again; one that is gone fails the next check.
            with suppress(EndpointError):
                await self._look()
            await trio.sleep(_LOOK_SECONDS)

    async def _look(self) -> int:
        """Ask sandbox and bridge; give how many webhooks are left to post."""
        # The sandbox first: what is delivered has then been counted in the bridge.
        emitted, webhooks = await _in_thread(
            partial(sandbox_statistics, self._addresses)
        )
        self._emitted = emitted
        self._bridge = await _in_thread(partial(bridge_numbers, self._addresses))
        return webhooks

    async def _show_table(self, reader: TopicReader) -> None:
        await follow_table(
            reader,
            self._addresses.topic,
            self._screen.console,
            head=self._head,
            head_lines=len(self._head()),
            observe=lambda records: self._consumed.observe(records, time.time()),
        )

    def _head(self) -> list[Text]:
        return head(self._addresses, self._line())

    def _line(self) -> str:
        return numbers_line(self._emitted, self._bridge, self._consumed)

    async def _consume(self, reader: TopicReader) -> None:
        while True:
            records = await reader.receive_run()
            self._consumed.observe(records, time.time())

    async def _show_lines(self) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(_LINE_SECONDS)
            seconds = trio.current_time() - began
            self._screen.say(f"{seconds:4.0f} s  {self._line()}")

    async def _drain(self) -> bool:
        """Stop the emission and wait until every event is where it belongs."""
        await _in_thread(partial(set_rate, self._addresses, 0.0))
        with trio.move_on_after(_DRAIN_SECONDS):
            while True:
                webhooks = await self._look()
                bridge = self._bridge
                arrived = self._consumed.count + bridge.dead_letters
                # What was emitted in a gap doesn't come; how much that was shows.
                if (
                    (bridge.read == self._emitted or bridge.gaps)
                    and bridge.published == arrived == bridge.read + bridge.healed
                    and not (webhooks or bridge.waiting)
                ):
                    return True
                await trio.sleep(_LOOK_SECONDS)
        self._screen.say(f"Not all events arrived within {_DRAIN_SECONDS:g} s.")
        return False

    async def sum_up(self) -> bool:
        """Print the summary and return whether its numbers agree."""
        await self._look()
        topic, kafka = self._addresses.topic, self._addresses.kafka
        records, letters = [
            await _in_thread(partial(read_topic, kafka, name, None, _READ_SECONDS))
            for name in (topic, f"{topic}.dlq")
        ]
        totals = Totals(
            emitted=self._emitted,
            bridge=self._bridge,
            on_topic=len(records),
            distinct=len({record.headers.get("ce_id") for record in records}),
            letters=len(letters),
            consumed=self._consumed.count,
        )
        self._screen.console.print(summary_table(totals, self._consumed.delays))
        for difference in totals.differences():
            self._screen.say(f"They don't agree: {difference}.")
        return not totals.differences()
