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

from bridge.outbox.store import Store


__all__ = ["Requests"]

_T = TypeVar("_T")


class _Mistake(msgspec.Struct, frozen=True):
    """Somebody asked for what can't be done; the store is as it was."""

    error: ValueError


class Requests:
    """A queue of requests; any thread puts, one answers and closes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[Store], Any], Future[Any]]] = deque()
        self._closed = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def put(self, work: Callable[[Store], _T]) -> Future[_T]:
        """Ask for work; its future is cancelled if nobody will do it any more."""
        future: Future[_T] = Future()
        self._waiting.append((work, future))
        # Looked at after appending: either `close` saw this one, or it is seen
        # here that nobody comes by.
        if self._closed:
            self.cancel()
        return future

    def work(self, store: Store, count: int | None = None) -> list[Any]:
        """
        Do what waits; nobody is told before `answer`.

        Args:
            store: What it is done with.
            count: How many, from the front; all that wait now if None.

        Returns:
            The results, in order.
        """
        return [
            None if future.cancelled() else _done(work, store)
            for work, future in islice(list(self._waiting), count)
        ]

    def answer(self, results: Sequence[Any]) -> None:
        """Hand out the results of `work`, once they hold."""
        for result in results:
            _, future = self._waiting.popleft()
            # Whoever asked may have given up meanwhile.
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, _Mistake):
                future.set_exception(result.error)
            else:
                future.set_result(result)

    def close(self) -> None:
        """Cancel what waits and whatever comes from now on."""
        self._closed = True
        self.cancel()

    def cancel(self) -> None:
        """Cancel what waits."""
        # Two threads may be at it: each takes what it gets.
        while self._waiting:
            try:
                _, future = self._waiting.popleft()
            except IndexError:
                return
            future.cancel()


def _done(work: Callable[[Store], Any], store: Store) -> Any:
    try:
        return work(store)
    except ValueError as error:
        return _Mistake(error)
