"""
The tasks of a producer's sender, so that all of them can be ended.

aiokafka 0.14 keeps them in a local variable. One that is left over puts its batch
back and fails noisily, or ends a transaction after its producer was given up.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import logging
from collections.abc import Mapping
from typing import Any


__all__ = ["SenderTasks"]


def _without_traceback(record: logging.LogRecord) -> bool:
    """Say in the line itself what ended the sender."""
    if record.exc_info:
        record.msg = f"{record.getMessage()}: {record.exc_info[1]!r}"
        record.args, record.exc_info = None, None
    return True


# aiokafka logs with its traceback what ends a sender, for instance an answer that it
# doesn't know. The batches on their way fail with it, and the relay tells of those.
logging.getLogger("aiokafka.producer.sender").addFilter(_without_traceback)


class SenderTasks:
    """
    What a sender has begun and not ended.

    Args:
        sender: The `Sender` of a producer that has not been started.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        # None of these has a public name.
        self._produce = sender._send_produce_req  # noqa: SLF001
        self._transact = sender._maybe_do_transactional_request  # noqa: SLF001
        sender._send_produce_req = self._noted_produce  # noqa: SLF001
        sender._maybe_do_transactional_request = self._noted_transact  # noqa: SLF001
        self._tasks: set[asyncio.Task[Any]] = set()

    async def _noted_produce(self, node_id: int, batches: Mapping[Any, Any]) -> None:
        """Send batches, as the sender would."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._produce(node_id, batches)
        finally:
            self._tasks.discard(task)

    def _noted_transact(self) -> asyncio.Task[Any] | None:
        """Begin what a transaction needs next, as the sender would."""
        task: asyncio.Task[Any] | None = self._transact()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> set[asyncio.Task[Any]]:
        """Cancel them all and the sender's own, and give them to be waited for."""
        tasks = set(self._tasks)
        own = self._sender.sender_task
        if own is not None:
            # One that fails at its end would fail its transaction, unseen.
            own.remove_done_callback(self._sender._fail_all)  # noqa: SLF001
            tasks.add(own)
        for task in tasks:
            task.cancel()
        return tasks
