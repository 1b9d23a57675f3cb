"""
Work that other threads want done on the outbox's thread.

Every request's future comes to an end, also those that come too late. What is
done and when is decided in `outbox`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, TypeVar

import msgspec

from bridge.errors import OutboxFullError
from bridge.outbox.room import Room
from bridge.outbox.store import Store


__all__ = ["Requests"]

_T = TypeVar("_T")


class _Request(msgspec.Struct, frozen=True):
    """
    What is wanted: see `Requests.put`.

    Attributes:
        work: It.
        future: Who waits for it.
        weight: What it writes weighs.
        mark: What was put into the buffer before must be written before.
        give_up: Told if it isn't done and never will be.
    """

    work: Callable[[Store], Any]
    future: Future[Any]
    weight: int
    mark: int
    give_up: Callable[[], None]


class _Undone(msgspec.Struct, frozen=True):
    """
    The store is as it was.

    Attributes:
        error: Somebody asked for what can't be done; None if nobody wants it any more.
    """

    error: ValueError | None


class Requests:
    """A queue of requests; any thread puts, one answers and closes."""

    def __init__(self) -> None:
        self._waiting: deque[_Request] = deque()
        self._closed = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(
        self,
        work: Callable[[Store], _T],
        *,
        weight: int = 0,
        mark: int = 0,
        give_up: Callable[[], None] = lambda: None,
    ) -> Future[_T]:
        """
        Ask for work; its future is cancelled if nobody will do it any more.

        Args:
            work: Does it, in a transaction or while the file is read.
            weight: What it writes weighs: see `admit` and `fitting`.
            mark: Of the buffer: see `fitting`.
            give_up: Called by any thread if it isn't done and never will be.
        """
        future: Future[_T] = Future()
        self._waiting.append(_Request(work, future, weight, mark, give_up))
        # Looked at after appending: either `close` saw this one, or it is seen
        # here that nobody comes by.
        if self._closed:
            self.cancel()
        return future

    def admit(self, most: int, room: Room) -> int:
        """
        Take room for the first ones, a step of it; those that find none fail now.

        Returns:
            How many of them are left to be worked on.
        """
        admitted: list[_Request] = []
        size = 0
        try:
            while self._waiting and len(admitted) < most and size < room.step_bytes:
                request = self._waiting[0]
                fits = room.take(request.weight)
                self._waiting.popleft()
                if fits:
                    admitted.append(request)
                    size += request.weight
                else:
                    _fail(request, OutboxFullError(room.reason))
        finally:
            # Room may be looked for in a file that turns out to be damaged.
            self._waiting.extendleft(reversed(admitted))
        return len(admitted)

    def fitting(self, most: int, room: Room, has_passed: Callable[[int], bool]) -> int:
        """Take room for the first ones that may be worked on; the others wait."""
        count = size = 0
        for request in islice(list(self._waiting), most):
            if size >= room.step_bytes or not has_passed(request.mark):
                break
            if not room.take(request.weight):
                break
            count += 1
            size += request.weight
        return count

    def work(self, store: Store, count: int | None = None) -> list[Any]:
        """
        Do what waits; nobody is told before `answer`.

        Args:
            store: What it is done with.
            count: How many, from the front; all that wait now if None.

        Returns:
            The results, in order.
        """
        # Nearly always: most commits are of the socket's events alone.
        if not self._waiting:
            return []
        return [_done(request, store) for request in islice(list(self._waiting), count)]

    def answer(self, results: Sequence[Any]) -> None:
        """Hand out the results of `work`, once they hold."""
        for result in results:
            request = self._waiting.popleft()
            is_undone = isinstance(result, _Undone)
            if is_undone:
                request.give_up()
            # Whoever asked may have given up meanwhile.
            if not request.future.set_running_or_notify_cancel():
                continue
            if is_undone:
                request.future.set_exception(result.error)
            else:
                request.future.set_result(result)

    def refuse(self, count: int, error: OutboxFullError) -> None:
        """Let requests from the front fail: what they want finds no room."""
        for _ in range(count):
            _fail(self._waiting.popleft(), error)

    def close(self) -> None:
        """Cancel what waits and whatever comes from now on."""
        self._closed = True
        self.cancel()

    def cancel(self) -> None:
        """Cancel what waits."""
        # Two threads may be at it: each takes what it gets.
        while self._waiting:
            try:
                request = self._waiting.popleft()
            except IndexError:
                return
            request.future.cancel()
            request.give_up()


def _done(request: _Request, store: Store) -> Any:
    if request.future.cancelled():
        return _Undone(None)
    try:
        return request.work(store)
    except ValueError as error:
        return _Undone(error)


def _fail(request: _Request, error: OutboxFullError) -> None:
    request.give_up()
    if request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)
