"""The way from a thread that runs asyncio to the one trio task that reads."""

from __future__ import annotations

import asyncio  # noqa: TID251 - it fills the queue
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import trio


__all__ = ["Handover", "Sized"]


class Sized(Protocol):
    """What can be handed over: it knows how much memory it takes."""

    @property
    def size_bytes(self) -> int:
        """The memory that it holds, roughly."""
        ...


T = TypeVar("T", bound=Sized)


class Handover(Generic[T]):
    """
    A queue bounded by bytes, filled by an asyncio task in a thread.

    The bound is soft by one item: an item is taken in whole while there is room. Made
    on the trio side; `bind` is called in the thread before anything else there.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._queued_bytes = 0
        self._error: BaseException | None = None
        self._ended = False
        self._stop_requested = False
        self._arrived = trio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()

    # -- The asyncio side, in the thread --------------------------------------

    def bind(self, task: asyncio.Task[None]) -> None:
        """Name the task that fills the queue, which `stop` cancels."""
        with self._lock:
            self._task = task
            if self._stop_requested:
                task.cancel()

    async def room(self) -> bool:
        """
        Wait until the queue holds less than its limit; gives whether it had to wait.

        It waits as long as the reader pauses: that is what holds the thread back.
        """
        waited = False
        while True:
            with self._lock:
                if self._queued_bytes < self._limit_bytes:
                    return waited
                self._has_room.clear()
            waited = True
            # No deadline: ends with the task.
            await self._has_room.wait()

    def put(self, item: T) -> None:
        """Hand over an item; `room` has been awaited before."""
        with self._lock:
            self._items.append(item)
            self._queued_bytes += item.size_bytes
        self._wake()

    def is_empty(self) -> bool:
        """Whether the reader has taken everything."""
        return not self._items

    def unbind(self) -> None:
        """Forget the task and its loop, before the loop is closed."""
        with self._lock:
            self._task = None

    def end(self, error: BaseException | None = None) -> None:
        """Note that the thread is through, as the last thing it does."""
        with self._lock:
            self._error = error
            self._ended = True
        self._wake()

    def _wake(self) -> None:
        """Wake the trio task, once for however many items wait."""
        # Nobody is left to wake when the trio program is over.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._notify, idempotent=True)

    # -- The trio side --------------------------------------------------------

    def _notify(self) -> None:
        self._arrived.set()

    async def get(self) -> T:
        """
        Wait for the next item; a cancelled call takes none.

        Raises:
            BaseException: What the thread ended with, after its last item.
            trio.EndOfChannel: The thread ended without an error.
        """
        await trio.lowlevel.checkpoint()
        while True:
            item = self._take()
            if item is not None:
                return item
            if self._ended:
                raise self._error or trio.EndOfChannel
            self._arrived = trio.Event()
            if not self._items and not self._ended:
                # No deadline: a quiet topic is quiet for as long as it likes.
                await self._arrived.wait()

    def _take(self) -> T | None:
        """Take the first item, and let the thread go on when there is room."""
        with self._lock:
            if not self._items:
                return None
            item = self._items.popleft()
            was_full = self._queued_bytes >= self._limit_bytes
            self._queued_bytes -= item.size_bytes
            if was_full and self._queued_bytes < self._limit_bytes:
                self._in_loop(self._has_room.set)
        return item

    async def stop(self) -> None:
        """Cancel the thread's task and wait until the thread is through."""
        with self._lock:
            self._stop_requested = True
            if self._task is not None:
                self._in_loop(self._task.cancel)
        while not self._ended:
            self._arrived = trio.Event()
            if not self._ended:
                # The caller's cancel scope is the deadline.
                await self._arrived.wait()

    def _in_loop(self, callback: Callable[[], object]) -> None:
        """Call something in the thread's loop; the lock is held."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(callback)
