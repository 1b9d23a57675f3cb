"""What all models share: time for as many orders as were asked for, and no log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.models.exploring import ORDERS


# No model takes more than 20 s for 300 orders on a core of its own.
_TIMEOUT_SECONDS = max(120, ORDERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give more time to those that try more."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep thousands of lines out of what pytest captures: half of the time."""
    with structlog.testing.capture_logs():
        yield
