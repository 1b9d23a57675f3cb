"""Servers of tests: for this machine alone, never left over, of known jars."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kit import downloads
from tests.kit.registry import RegistryServer
from tests.kit.soketi import SoketiServer


def test_soketi_is_for_this_machine_only(own_soketi: SoketiServer) -> None:
    """Every socket is bound to 127.0.0.1."""
    sockets = psutil.Process(own_soketi.pid).net_connections()
    assert {one.laddr.ip for one in sockets} == {"127.0.0.1"}


@pytest.mark.slow
def test_the_registry_is_for_this_machine_only(registry: RegistryServer) -> None:
    """Every socket is bound to 127.0.0.1."""
    sockets = psutil.Process(registry.pid).net_connections()
    assert {one.laddr.ip for one in sockets} == {"::ffff:127.0.0.1"}


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


def test_foreign_jar_is_refused(tmp_path: Path) -> None:
    """Jars that differ from the list, are missing or too many are named."""
    folder = tmp_path / "environment"
    (folder / "jars").mkdir(parents=True)
    for name in ("a", "b", "foreign"):
        (folder / "jars" / f"{name}.jar").write_bytes(b"content")
    good = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    listed = f"{good}  jars/a.jar\n{'0' * 64}  jars/b.jar\n{good}  jars/missing.jar\n"
    with pytest.raises(ValueError, match="expected jars") as caught:
        downloads.check_digests(folder, listed)
    named = str(caught.value).partition(": ")[2]
    assert named == "jars/b.jar, jars/foreign.jar, jars/missing.jar"
