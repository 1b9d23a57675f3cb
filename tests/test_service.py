"""The service's stop, where its rooms don't answer any more."""

from __future__ import annotations

from pathlib import Path

from bridge.outbox import OutboxDirectory
from bridge.service import _Service
from bridge.settings import OutboxSettings, Secret, Settings


async def test_a_stop_bears_an_outbox_that_answers_nobody_any_more(
    tmp_path: Path,
) -> None:
    """Its thread has ended, or has just set a damaged file aside: nothing is known."""
    settings = Settings(
        client_id="42", api_token=Secret("x"), outbox=OutboxSettings(dir=tmp_path)
    )
    with OutboxDirectory(tmp_path) as directory:
        service = _Service(settings, directory, None)
        service._outbox.stop()
        service._outbox.run()
        assert not await service._waits_for_nothing()
