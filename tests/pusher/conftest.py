"""A second soketi, for what the suite's own can't show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.publisher import App
from tests.kit.soketi import SoketiServer


FULL = App("full-id", "full-key", "full-secret")
"""An app that has room for one connection."""

DISABLED = App("disabled-id", "disabled-key", "disabled-secret")
"""An app that is switched off."""


def _app(app: App, **members: Any) -> dict[str, Any]:
    return {
        "id": app.id,
        "key": app.key,
        "secret": app.secret,
        "enabled": True,
        "enableClientMessages": False,
        "maxConnections": -1,
        "maxBackendEventsPerSecond": -1,
        "maxClientEventsPerSecond": -1,
        "maxReadRequestsPerSecond": -1,
        "webhooks": [],
        **members,
    }


@pytest.fixture(scope="session")
def odd_soketi() -> Iterator[SoketiServer]:
    """A soketi with apps that refuse."""
    apps = [
        _app(App()),
        _app(FULL, maxConnections=1),
        _app(DISABLED, enabled=False),
    ]
    with SoketiServer(options={"appManager.array.apps": apps}) as server:
        yield server
