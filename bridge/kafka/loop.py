"""Where asyncio runs: loops that leave nothing behind, in threads of their own."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
import trio


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
        is stopped, or whose first answer is no longer awaited.
        """
        for transport in list(self._connected):
            transport.abort()
        # Their protocols learn of it in the loop's next round.
        await asyncio.sleep(0)


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Do what blocks in a thread for whose end neither loop nor interpreter waits."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def resolve(take: Callable[[], None]) -> None:
        if not done.done():
            take()

    def look() -> None:
        try:
            take = partial(done.set_result, work())
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            take = partial(done.set_exception, error)
        # RuntimeError: the loop has ended, nothing waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve, take)

    threading.Thread(target=look, name="bridge-kafka-blocking", daemon=True).start()
    return await done


async def run_in_thread(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do asyncio's work in a thread of its own; a cancelled caller doesn't stop it."""
    return await trio.to_thread.run_sync(run, work, abandon_on_cancel=True)


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do asyncio's work in a loop of its own, in this thread."""

    async def whole(loop: ClosingLoop) -> _T:
        try:
            return await work()
        finally:
            # What a client's closing left behind; the runner cancels what is stuck.
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=_LEFT_OVER_SECONDS)
            await loop.abort_connections()

    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosingLoop)
        return runner.run(whole(loop))


class LoopThread(Generic[_T]):
    """
    Runs one coroutine in a thread of its own; made and stopped on the trio side.

    What it puts is taken by one trio task. What isn't taken yet is bounded by bytes,
    but for one item, if the work waits for space before it puts. Each field belongs to
    one side.
    """

    def __init__(self, name: str, limit_bytes: int = 0) -> None:
        self._limit_bytes = limit_bytes
        self._token = trio.lowlevel.current_trio_token()
        self._putting, self._taking = trio.open_memory_channel[tuple[_T, int]](math.inf)
        self._failure: BaseException | None = None
        self._is_stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._queued = self._queued_bytes = 0
        self._has_space = asyncio.Event()
        self._name = name
        self._thread: threading.Thread | None = None

    # -- The trio side ----------------------------------------------------------

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin."""
        # A daemon: a thread stuck in a system call must not keep the process.
        self._thread = threading.Thread(
            target=self._run, args=[work], name=self._name, daemon=True
        )
        self._thread.start()

    async def get(self) -> _T:
        """Wait for the next item; raises what the thread ended with."""
        # No deadline: a quiet topic is quiet for as long as it likes.
        async for item, size_bytes in self._taking:
            self._in_loop(partial(self._taken, size_bytes))
            return item
        raise self._failure or trio.EndOfChannel

    async def stop(self) -> None:
        """Stop the thread within its deadline, whatever happens around."""
        self._is_stopped = True
        self._in_loop(self._cancel)
        with trio.move_on_after(_STOP_SECONDS, shield=True) as scope:
            async for _ in self._taking:
                pass
        if scope.cancelled_caught:
            _log.warning("reader.abandoned", after_seconds=_STOP_SECONDS)
        elif self._thread is not None:
            # Its last word came; what is left of it takes microseconds.
            self._thread.join(timeout=1.0)

    def _in_loop(self, callback: Callable[[], object]) -> None:
        # RuntimeError: the loop has ended.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback)

    def _end(self, failure: BaseException | None) -> None:
        self._failure = failure
        self._putting.close()

    # -- The asyncio side -------------------------------------------------------

    async def wait_for_space(self) -> bool:
        """Wait until less than the limit is untaken; gives whether it had to wait."""
        waited = False
        while self._queued_bytes >= self._limit_bytes:
            waited = True
            self._has_space.clear()
            # No deadline: ends with the task.
            await self._has_space.wait()
        return waited

    def put(self, item: _T, size_bytes: int = 0) -> None:
        """Hand over an item; `wait_for_space` has been awaited before."""
        self._queued += 1
        self._queued_bytes += size_bytes
        self._in_trio(self._putting.send_nowait, (item, size_bytes))

    @property
    def is_empty(self) -> bool:
        """Whether the reader has taken everything."""
        return not self._queued

    def _taken(self, size_bytes: int) -> None:
        self._queued -= 1
        self._queued_bytes -= size_bytes
        self._has_space.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _in_trio(self, callback: Callable[..., object], *arguments: object) -> None:
        # Nothing waits when the trio program is over.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(callback, *arguments)

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run asyncio for the work; the thread's whole life."""

        async def stoppable() -> None:
            self._task = asyncio.current_task()
            self._loop = asyncio.get_running_loop()
            # Asked for before there was a loop.
            if not self._is_stopped:
                await work()

        failure: BaseException | None = None
        try:
            run(stoppable)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the trio task
            failure = error
        self._in_trio(self._end, failure)
