"""Fixtures of the Kafka room's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka.reading.readers import reader_threads


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """The test ends without a reader's thread and without its sockets."""
    yield
    assert reader_threads() == []
