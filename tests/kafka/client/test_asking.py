"""Waiting in asyncio for what another thread answers."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the waiting side is asyncio's
from concurrent.futures import Future

import pytest

from bridge.kafka.client.asking import answer


def test_gives_the_answer_and_the_error() -> None:
    """Result and exception come through, from a thread or already there."""

    async def ask() -> None:
        future: Future[int] = Future()
        asking = asyncio.create_task(answer(future))
        await asyncio.sleep(0)
        await asyncio.to_thread(future.set_result, 7)
        assert await asking == 7
        assert await answer(future) == 7
        failed: Future[int] = Future()
        failed.set_exception(OSError("disk"))
        with pytest.raises(OSError, match="disk"):
            await answer(failed)

    asyncio.run(ask())


def test_giving_up_leaves_the_future_to_its_thread() -> None:
    """A cancelled wait doesn't cancel the future: it can still be answered."""

    async def ask() -> Future[int]:
        future: Future[int] = Future()
        asking = asyncio.create_task(answer(future))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        return future

    future = asyncio.run(ask())
    future.set_result(7)  # the loop is closed
    assert future.result() == 7


def test_an_outbox_that_has_ended_ends_the_asker() -> None:
    """A future that its thread cancels ends the task that waits, as cancelled."""

    async def ask() -> None:
        future: Future[int] = Future()
        asking = asyncio.create_task(answer(future))
        await asyncio.sleep(0)
        future.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

    asyncio.run(ask())
