"""What `process` promises, shown on small shells instead of real servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.process import (
    ChildProcess,
    ProcessError,
    check_port_free,
    free_ports,
    run_all,
    start_all,
    stop_all,
)


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


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Callable[..., ChildProcess]]:
    """Make children that run a shell script; none outlives the test."""
    made: list[ChildProcess] = []

    def make(script: str, *, ready: str | None = None) -> ChildProcess:
        name = f"shell {len(made)}"
        child = ChildProcess(
            name,
            ["sh", "-c", script],
            log=tmp_path / name,
            cwd=tmp_path,
            ready=None if ready is None else lambda child: ready in child.output(),
        )
        made.append(child)
        return child

    yield make
    for child in made:
        child.kill()


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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_their_starter(tmp_path: Path, number: int) -> None:
    """A killed starter takes its child, the child's child and the scratch along."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "file").write_text("x")
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

        starter.send_signal(number)

    _wait_until(lambda: all(_gone(pid) for pid in pids))
    _wait_until(lambda: not scratch.exists())


def test_child_stands_in_its_own_session(shell: Callable[..., ChildProcess]) -> None:
    """The terminal's Ctrl-C can't reach a child, nor a killed group its watchdog."""
    child = shell("echo up; sleep 60", ready="up")
    start_all([child], deadline_seconds=_DEADLINE_SECONDS)

    mine = psutil.Process()
    sessions = {os.getsid(process.pid) for process in mine.children()}

    assert os.getsid(child.pid) == child.pid
    assert os.getsid(0) not in sessions
    assert len(sessions) >= 2


def test_child_can_be_started_again(shell: Callable[..., ChildProcess]) -> None:
    """Each start has its own output and its own process."""
    child = shell("echo $$; sleep 60", ready="\n")
    start_all([child], deadline_seconds=_DEADLINE_SECONDS)
    first, output = child.pid, child.output()
    with pytest.raises(ProcessError, match="running already"):
        child.spawn()

    stop_all([child], grace_seconds=5)
    start_all([child], deadline_seconds=_DEADLINE_SECONDS)

    assert child.pid != first
    assert output == f"{first}\n"
    assert child.output() == f"{child.pid}\n"


def test_late_start_kills_all(shell: Callable[..., ChildProcess]) -> None:
    """If one server isn't ready in time, the ready ones end as well."""
    quick, slow = shell("echo up; sleep 60", ready="up"), shell("sleep 60", ready="up")

    with pytest.raises(ProcessError, match=r"shell 1 was not ready within 0\.3 s"):
        start_all([quick, slow], deadline_seconds=0.3)

    assert not quick.running
    assert not slow.running


@pytest.mark.parametrize(
    ("script", "message"),
    [("exit 4", "failed with exit code 4"), ("sleep 60", r"did not end within 0\.5 s")],
)
def test_failed_program_is_an_error(
    shell: Callable[..., ChildProcess], script: str, message: str
) -> None:
    """A program that fails or doesn't end is an error, and gone."""
    program = shell(script)

    with pytest.raises(ProcessError, match=message):
        run_all([program], deadline_seconds=0.5)

    assert not program.running


def test_stubborn_server_is_killed(shell: Callable[..., ChildProcess]) -> None:
    """What ignores SIGTERM is killed when its grace is over."""
    child = shell("trap '' TERM; echo up; while :; do sleep 0.1; done", ready="up")
    start_all([child], deadline_seconds=_DEADLINE_SECONDS)

    stop_all([child], grace_seconds=0.3)

    assert child.exit_code == -signal.SIGKILL


def test_ports_are_different_and_not_for_outgoing() -> None:
    """Free ports are distinct and lie below those for outgoing connections."""
    ports = free_ports(50)

    assert len(set(ports)) == 50
    assert all(20_000 <= port < 32_000 for port in ports)
    for port in ports:
        check_port_free(port)
