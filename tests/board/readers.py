"""A reader of topics that goes by a script."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import trio

from bridge.kafka.reader import ConsumedRecord, Start


class Readers:
    """Stands in for `TopicReader`: each that is opened goes by the next script."""

    def __init__(self, *scripts: Exception | Sequence[Any]) -> None:
        self._scripts = list(scripts)
        self.topics: list[str] = []
        self.starts: list[Start] = []
        self.silent_since_seconds: float | None = None
        self.lag = 0
        self.positions: dict[tuple[str, int], int] = {}
        self.is_at_end = True
        self._script: list[Any] = []

    def __call__(self, _: object, topics: Sequence[str], *, start: Start) -> Self:
        """Make a reader."""
        self.topics.append(topics[0])
        self.starts.append(start)
        return self

    async def __aenter__(self) -> Self:
        script = self._scripts.pop(0)
        if isinstance(script, Exception):
            raise script
        self._script = list(script)
        self.positions = dict(self.positions)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def receive_run(self) -> list[ConsumedRecord]:
        """Give the next run."""
        await trio.lowlevel.checkpoint()
        if not self._script:
            await trio.sleep_forever()
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        run: list[ConsumedRecord] = step
        self.positions = {(one.topic, one.partition): one.offset + 1 for one in run}
        return run
