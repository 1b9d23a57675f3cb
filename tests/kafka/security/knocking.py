"""Knocking at a broker from a test: in a loop as the relay has it, left empty."""

from __future__ import annotations

import asyncio  # noqa: TID251 - runs the room's coroutines

from bridge.errors import KafkaError
from bridge.kafka.loop import ClosingLoop
from bridge.kafka.probe import diagnose
from bridge.settings import KafkaSettings


def knock(settings: KafkaSettings) -> KafkaError | None:
    """Find out what keeps a client with these settings from the broker."""
    with asyncio.Runner(loop_factory=ClosingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosingLoop)
        try:
            return runner.run(diagnose(settings))
        finally:
            runner.run(loop.abort_connections())
