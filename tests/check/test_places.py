"""A place where no outbox can live is told."""

from __future__ import annotations

# What asyncio imports when it is used first: another user may not read Python's files.
import concurrent.futures.thread  # noqa: F401
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.check.report import Outcome
from bridge.errors import ExitCode
from tests.check.ground import Ground, remarkable
from tests.outbox.test_full_disk import _unshare


# The first test waits for brokers to start, on a machine that others use.
pytestmark = pytest.mark.timeout(180)

# Root may write everywhere; nobody may not.
_NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user who may not do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def closed_folder(mode: int) -> Iterator[Path]:
    """Give a directory that others can get to, and can't use; pytest's are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(mode)
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize("mode", [0o555, 0o000])
async def test_a_directory_that_this_user_may_not_write_to(
    ground: Ground, mode: int
) -> None:
    """Whether he may look into it or not."""
    with closed_folder(mode) as folder, without_privileges():
        report = await ground.check({"BRIDGE_OUTBOX_DIR": str(folder / "outbox")})
    (line,) = remarkable(report)
    assert (line.step, line.outcome) == ("outbox.directory", Outcome.FAILURE)
    assert "Permission denied" in line.detail
    assert "BRIDGE_OUTBOX_DIR" in line.hint
    assert report.exit_code is ExitCode.USAGE


def test_a_disk_that_is_full(ground: Ground) -> None:
    """What is left for acknowledgements is left to them; a small disk is told too."""
    way = _unshare()
    if way is None:
        pytest.skip("this user may not mount a small disk: no user namespaces, no root")
    full, small = (
        _looked_at(ground, way, filling) for filling in ("head -c 4m /dev/zero", "true")
    )
    (space,) = (line for line in full["checks"] if line["step"] == "outbox.space")
    assert space["outcome"] == "failure"
    assert "no event would be accepted" in space["detail"]
    assert "Make room on the disk" in space["remedy"]
    assert full["exit_code"] == ExitCode.USAGE
    (space,) = (line for line in small["checks"] if line["step"] == "outbox.space")
    assert space["outcome"] == "warning"
    assert "less than the 8.0 GiB" in space["detail"]
    assert "BRIDGE_OUTBOX_MAX_BYTES" in space["remedy"]
    memory = [line for line in small["checks"] if line["step"] == "outbox.directory"]
    assert [line["outcome"] for line in memory] == ["ok", "warning"]
    assert "lies in memory (tmpfs)" in memory[1]["detail"]


def _looked_at(ground: Ground, way: tuple[str, ...], filling: str) -> dict[str, Any]:
    """Have a look at a disk of 2 MB, some of which is used."""
    disk = ground.folder / "disk"
    disk.mkdir(exist_ok=True)
    script = (
        'mount -t tmpfs -o size=2m tmpfs "$1" && mkdir "$1/outbox" &&'
        f' {{ {filling} > "$1/filling" 2>/dev/null; }};'
        ' exec "$2" -m bridge check --output json'
    )
    looked = subprocess.run(
        [*way, "sh", "-c", script, "sh", str(disk), sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        env={
            **os.environ,
            **{name: text for name, text in ground.environ.items() if text},
            "BRIDGE_OUTBOX_DIR": str(disk / "outbox"),
        },
    )
    facts: dict[str, Any] = json.loads(looked.stdout)
    assert looked.returncode == facts["exit_code"]
    return facts
