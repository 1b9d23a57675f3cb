"""The queue between a thread's asyncio task and a trio task."""

from __future__ import annotations

import asyncio  # noqa: TID251 - one side of the queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio

from bridge.kafka.client.handover import Handover


_DEADLINE_SECONDS = 10.0


class Item(msgspec.Struct, frozen=True):
    """Something with a number and a size."""

    number: int
    size_bytes: int = 10


Fill = Callable[[Handover[Item]], Awaitable[None]]


@asynccontextmanager
async def filled_by(fill: Fill, limit_bytes: int) -> AsyncIterator[Handover[Item]]:
    """Run `fill` in a thread with a loop of its own."""
    handover: Handover[Item] = Handover(limit_bytes)

    def run() -> None:
        loop = asyncio.new_event_loop()
        failure: BaseException | None = None
        try:
            task = loop.create_task(_as_coroutine(fill, handover))
            handover.bind(task)
            loop.run_until_complete(task)
        except BaseException as error:  # noqa: BLE001 - handed to the other side
            failure = error
        handover.unbind()
        loop.close()
        handover.end(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with trio.fail_after(_DEADLINE_SECONDS):
            yield handover
    finally:
        with trio.CancelScope(shield=True):
            await handover.stop()
        thread.join()


async def _as_coroutine(fill: Fill, handover: Handover[Item]) -> None:
    await fill(handover)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the other thread does."""
    while not condition():  # noqa: ASYNC110 - the thread sets no trio.Event
        await trio.sleep(0.001)


async def test_items_come_in_order_and_then_the_end() -> None:
    """What was put comes in order; after the thread's end the channel has ended."""

    async def fill(handover: Handover[Item]) -> None:
        for number in range(1000):
            await handover.room()
            handover.put(Item(number))

    async with filled_by(fill, limit_bytes=50) as handover:
        assert [(await handover.get()).number for _ in range(1000)] == list(range(1000))
        with pytest.raises(trio.EndOfChannel):
            await handover.get()


async def test_room_waits_until_items_are_taken() -> None:
    """The thread stops at the limit and goes on when the reader has made room."""
    counts: list[int] = []

    async def fill(handover: Handover[Item]) -> None:
        for number in range(6):
            waited = await handover.room()
            counts.append(number)
            assert waited == (number >= 3)
            handover.put(Item(number))

    def reached(handover: Handover[Item], count: int) -> bool:
        """Whether so many are in, and the thread waits for room or is at its end."""
        is_waiting = not handover._has_room.is_set()
        return len(counts) >= count and (is_waiting or count == 6)

    async with filled_by(fill, limit_bytes=30) as handover:
        await until(partial(reached, handover, 3))
        await trio.sleep(0.05)
        assert counts == [0, 1, 2]
        for expected in range(6):
            assert (await handover.get()).number == expected
            await until(partial(reached, handover, min(6, expected + 4)))


async def test_an_error_comes_after_the_last_item() -> None:
    """What the thread failed with is raised once everything has been taken."""

    async def fill(handover: Handover[Item]) -> None:
        handover.put(Item(1))
        raise ValueError("broken")

    async with filled_by(fill, limit_bytes=30) as handover:
        assert (await handover.get()).number == 1
        with pytest.raises(ValueError, match="broken"):
            await handover.get()


async def test_stop_ends_a_thread_that_waits_for_room() -> None:
    """A thread held back by a full queue is cancelled there."""
    held_back = threading.Event()

    async def fill(handover: Handover[Item]) -> None:
        handover.put(Item(1, size_bytes=100))
        try:
            await handover.room()
        except asyncio.CancelledError:
            held_back.set()
            raise

    async with filled_by(fill, limit_bytes=30) as handover:
        await until(lambda: not handover.is_empty())
        await handover.stop()
    assert held_back.is_set()


async def test_stop_before_the_task_exists_still_ends_it() -> None:
    """A stop that comes first cancels the task as soon as it is named."""
    handover: Handover[Item] = Handover(10)
    ran = threading.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        ran.set()

    def run() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(work())
        handover.bind(task)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        handover.unbind()
        loop.close()
        handover.end()

    thread = threading.Thread(target=run)
    with trio.fail_after(_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handover.stop)
            await trio.testing.wait_all_tasks_blocked()
            thread.start()
    thread.join()
    assert not ran.is_set()


async def test_a_cancelled_get_takes_nothing() -> None:
    """An item that arrives while a call is cancelled stays for the next."""
    handover: Handover[Item] = Handover(10)
    with trio.move_on_after(0):
        await handover.get()
    handover.put(Item(7))
    with trio.CancelScope() as scope:
        scope.cancel()
        await handover.get()
    assert scope.cancelled_caught
    assert (await handover.get()).number == 7
