"""Where asyncio runs: loops that leave nothing behind, in threads of their own."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the threads run it
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
import trio

from bridge.kafka.handover import Handover, T


__all__ = ["ClosingLoop", "LoopThread", "in_daemon_thread", "run", "run_in_thread"]

_log = structlog.get_logger("bridge.kafka")

_T = TypeVar("_T")

# The thread closes its sockets within 2 s; what is stuck longer is abandoned.
_STOP_SECONDS = 5.0
# A closing that was interrupted needs milliseconds to come to its end.
_LEFT_OVER_SECONDS = 0.5


class ClosingLoop(asyncio.SelectorEventLoop):
    """A loop that knows its connections, so that none outlives its work."""

    def __init__(self) -> None:
        super().__init__()
        self._connected: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect, as any loop does."""
        transport, protocol = await super().create_connection(*arguments, **options)
        self._connected.add(transport)
        return transport, protocol

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """Look a name up; a resolver that gets no answer takes half a minute."""
        return await in_daemon_thread(partial(socket.getaddrinfo, host, port, **hints))

    async def abort_connections(self) -> None:
        """
        Close whatever is still open.

        aiokafka 0.14 forgets a connection that is being made while its client
        is stopped, or whose first answer nobody waits for any more.
        """
        for transport in list(self._connected):
            transport.abort()
        # Their protocols learn of it in the loop's next round.
        await asyncio.sleep(0)


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """
    Do what blocks in a thread that nobody waits for at the end.

    Both the loop and the interpreter would wait for the threads that asyncio lends.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(take: Callable[[], None]) -> None:
        if not done.done():
            take()

    def look() -> None:
        try:
            take = partial(done.set_result, work())
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            take = partial(done.set_exception, error)
        # RuntimeError: the loop has ended, nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, take)

    threading.Thread(target=look, name="bridge-kafka-blocking", daemon=True).start()
    return await done


async def run_in_thread(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do asyncio's work in a thread of its own; a cancelled caller leaves it alone."""
    return await trio.to_thread.run_sync(run, work, abandon_on_cancel=True)


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do asyncio's work in a loop of its own, in this thread."""

    async def whole(loop: ClosingLoop) -> _T:
        try:
            return await work()
        finally:
            await loop.abort_connections()

    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosingLoop)
        return runner.run(whole(loop))


class LoopThread(Generic[T]):
    """
    Runs one coroutine in a thread of its own; made and stopped on the trio side.

    The work puts what it reads into the handover, whose end is the thread's.
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
            _log.warning("reader.abandoned", after_seconds=_STOP_SECONDS)
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
