"""How workers share servers, shown on a shell instead of a real one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit.process import ChildProcess, ChildServer
from tests.kit.shared import SharedServers, servers_of


class _Shell(ChildServer):
    """A server that prints its process id."""

    made = 0

    def __init__(self) -> None:
        _Shell.made += 1
        self._folder = Path(tempfile.mkdtemp())
        script = ["sh", "-c", "echo $$; sleep 60"]
        self._processes = [
            ChildProcess(
                "shell",
                script,
                log=self._folder / "log",
                cwd=self._folder,
                ready=_is_ready,
            )
        ]

    def output(self) -> str:
        """What it has printed."""
        return self._processes[0].output()

    def close(self) -> None:
        """End it."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_ready(process: ChildProcess) -> bool:
    return process.output().endswith("\n")


@pytest.fixture
def shared() -> Iterator[SharedServers]:
    """The servers of a run of its own."""
    _Shell.made = 0
    made = SharedServers({"shell": _Shell})
    yield made
    made.close()


def test_a_server_is_started_once_and_every_worker_can_stop_it(
    shared: SharedServers,
) -> None:
    """Workers' copies see one process, which ends with the run."""
    folder = str(shared.listen())
    first, second = (servers_of(folder).get("shell") for _ in range(2))
    assert _Shell.made == 1
    assert first.pid == second.pid == int(first.output())
    pid = first.pid

    first.kill()
    assert not second.running
    second.start()

    assert first.pid == second.pid != pid
    own = shared.get("shell")
    assert isinstance(own, _Shell)
    shared.close()
    assert not own.running


def test_no_two_tests_have_one_server(shared: SharedServers) -> None:
    """As many as there are can be had at once; one that is given back is free."""
    workers = [servers_of(str(shared.listen())) for _ in range(2)]
    with ExitStack() as stack:
        numbers = [stack.enter_context(one.locked("shell", 2)) for one in workers]
        assert numbers == [0, 1]
    with workers[1].locked("shell", 2) as number:
        assert number == 0
