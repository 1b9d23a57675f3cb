"""
A disk without room, for real: a small tmpfs in a mount namespace of its own.

The bridge keeps what it has, reports it once, drops what has no room, counts it, and
goes on by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest


@cache
def _unshare() -> tuple[str, ...] | None:
    """Find how this user may make a mount namespace; None if not at all."""
    program = shutil.which("unshare")
    if sys.platform != "linux" or program is None:
        return None
    ways = [(program, "-Urm")]
    if os.geteuid() == 0:
        ways.append((program, "-m"))
    for way in ways:
        tried = subprocess.run(
            [*way, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"],
            check=False,
            capture_output=True,
            timeout=20,
        )
        if tried.returncode == 0:
            return way
    return None


def test_what_matters_most_comes_to_a_full_disk(tmp_path: Path) -> None:
    """Previews go first, then events; last events and the gap's record come to disk."""
    way = _unshare()
    if way is None:
        pytest.skip("this user may not mount a small disk: no user namespaces, no root")
    script = (
        'mount -t tmpfs -o size=6m tmpfs "$1" && mkdir "$1/outbox" &&'
        ' exec "$2" -m tests.outbox.filling "$1"'
    )
    filled = subprocess.run(
        [*way, "sh", "-c", script, "sh", str(tmp_path), sys.executable],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parents[2],
    )
    assert filled.returncode == 0, filled.stderr
    facts = json.loads(filled.stdout.splitlines()[-1])
    assert facts["dropped_before"] == 0
    numbers, offered = facts["numbers"], facts["offered"]
    assert numbers == sorted(set(numbers))
    assert set(range(4, offered, 5)) <= set(numbers)
    dropped = sum(facts["dropped"].values())
    pictures = facts["dropped_pictures"]
    assert len(numbers) == facts["committed"] == offered - dropped - pictures
    assert 0 < facts["stripped"] <= facts["dropped_previews"]
    # Previews alone are counted apart, and none of them is part of a loss.
    assert pictures > 0
    assert len(set(range(0, offered, 5)) & set(numbers)) == offered // 5 - pictures
    assert facts["kept_when_full"] == 1
    assert facts["causes"] == ["outbox_full"]
    assert facts["bytes"] < 6 * 2**20
