"""Fixtures of tests with a real Kafka: no wait that is long for an operator's sake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.kafka import connection, producer
from bridge.kafka.relay import epoch


@pytest.fixture(autouse=True)
def quick_retries() -> Iterator[None]:
    """Wait 0.1 s before a request is repeated."""
    # A MonkeyPatch of its own: tests undo theirs while it is in use.
    with pytest.MonkeyPatch.context() as patch:
        for module in (connection, producer, epoch):
            patch.setattr(module, "RETRY_BACKOFF_SECONDS", 0.1)
        yield
