"""What was begun with a damaged file is finished, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outbox.harming import (
    COUNT,
    Scene,
    halve,
    numbers_of,
    open_jobs,
    overwrite_header,
    read_all,
)
from tests.outbox.making import (
    eventually,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A directory for an outbox."""
    return Scene(tmp_path)


@pytest.mark.parametrize("moved", ["", "-wal"])
def test_a_move_that_was_begun_is_finished(scene: Scene, moved: str) -> None:
    """A process that died while it set the file aside leaves it to the next one."""
    scene.fill()
    name = "outbox.sqlite3.damaged-20260101T000000Z"
    (scene.path / f"{name}.to-salvage").touch()
    if moved:
        scene.database.with_name("outbox.sqlite3-wal").touch()
        scene.database.with_name("outbox.sqlite3-wal").rename(
            scene.path / f"{name}-wal"
        )
    else:
        scene.database.rename(scene.path / name)
    with scene.running() as outbox:
        open_jobs(outbox)
        eventually(lambda: outbox.statistics.rows == COUNT)
        assert numbers_of(read_all(outbox)) == list(range(COUNT))
    assert (scene.path / name).exists()
    assert not (scene.path / f"{name}.to-salvage").exists()


@pytest.mark.parametrize("harm", [halve, overwrite_header])
def test_what_a_salvage_doesn_t_find_is_a_loss_whoever_found_the_damage(
    scene: Scene, harm: Callable[[Path], None]
) -> None:
    """The process that set the file aside was killed before it told anybody."""
    scene.fill()
    harm(scene.database)
    scene.database.rename(scene.path / "outbox.sqlite3.damaged-20260101T000000Z")
    (scene.path / "outbox.sqlite3.damaged-20260101T000000Z.to-salvage").touch()
    with scene.running() as outbox:
        open_jobs(outbox)
    scene.check_losses(since_us=None)
    assert scene.losses[1].records == outbox.statistics.lost_rows
