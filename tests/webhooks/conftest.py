"""Fixtures of the webhooks' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import structlog


Told = Callable[[], str]


@pytest.fixture
def told() -> Iterator[Told]:
    """What is logged, each line with its fields."""
    with structlog.testing.capture_logs() as lines:
        yield lambda: "\n".join(map(str, lines))
