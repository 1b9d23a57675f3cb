"""
A thread that runs asyncio for one reader of topics.

Owns the thread's life: its start, its end within a deadline, and what a client
left behind in its loop. What is read belongs to whoever gives it its work.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic

import structlog
import trio

from bridge.kafka.client.ending import ClosingLoop
from bridge.kafka.client.handover import Handover, T


__all__ = ["LoopThread"]

log = structlog.get_logger("bridge.kafka")

# The thread closes its sockets within 2 s; what is stuck longer is abandoned.
_STOP_SECONDS = 5.0
# A closing that was interrupted needs milliseconds to come to its end.
_LEFT_OVER_SECONDS = 0.5


class LoopThread(Generic[T]):
    """
    Runs one coroutine in a thread of its own; made and stopped on the trio side.

    Args:
        name: The thread's name.
        handover: Where the work puts what it reads; its end is the thread's.
        work: Makes the coroutine, in the thread.
    """

    def __init__(
        self,
        name: str,
        handover: Handover[T],
        work: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._handover = handover
        self._work = work
        # A daemon: a thread stuck in a system call must not keep the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread within its deadline, whatever happens around."""
        with trio.move_on_after(_STOP_SECONDS, shield=True) as scope:
            await self._handover.stop()
        if scope.cancelled_caught:
            log.warning("reader.abandoned", after_seconds=_STOP_SECONDS)
            return
        # Its last word came; what is left of it takes microseconds.
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        """Run asyncio for the work; the thread's whole life."""
        failure: BaseException | None = None
        loop = ClosingLoop()
        try:
            task = loop.create_task(self._work())
            self._handover.bind(task)
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the trio task
            failure = error
        finally:
            _end_left_over(loop)
            self._handover.unbind()
            loop.close()
            self._handover.end(failure)


def _end_left_over(loop: ClosingLoop) -> None:
    """End what a client's closing left behind, and what its deadline cut off."""
    if tasks := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LEFT_OVER_SECONDS))
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LEFT_OVER_SECONDS))
    loop.run_until_complete(loop.abort_connections())
