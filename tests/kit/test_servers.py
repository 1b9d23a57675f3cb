"""Servers of tests are never left over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil


_ROOT = Path(__file__).parents[2]  # where `tests` can be imported from

_DEADLINE_SECONDS = 10.0

# A starter as a program of its own, so that it can be killed: it starts a child
# that starts another, prints their ids and waits.
_STARTER = """
import sys, time
from pathlib import Path
from tests.kit.process import ChildProcess, start_all

folder = Path(sys.argv[1])
child = ChildProcess(
    "child",
    ["sh", "-c", "sleep 600 & echo $! $$; wait"],
    log=folder.parent / "log",
    cwd=folder,
    scratch=folder,
    ready=lambda process: "\\n" in process.output(),
)
start_all([child], deadline_seconds=10)
print(child.output(), flush=True)
time.sleep(600)
"""


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_children_die_with_their_starter(tmp_path: Path) -> None:
    """A killed starter takes its child, the child's child and the scratch along."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, scratch],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(_gone(pid) for pid in pids)
        # The terminal's Ctrl-C reaches the starter alone.
        assert os.getsid(pids[1]) == pids[1]
        starter.kill()
    _wait_until(lambda: all(_gone(pid) for pid in pids))
    _wait_until(lambda: not scratch.exists())
