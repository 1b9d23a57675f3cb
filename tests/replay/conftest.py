"""Fixtures of the replay's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Topic
from tests.replay.scene import Scene


@pytest.fixture
def scene(topic: Topic, tmp_path: Path) -> Scene:
    """A topic, its dead letters, and directories of its own."""
    return Scene(topic, tmp_path)
