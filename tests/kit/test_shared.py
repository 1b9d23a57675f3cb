"""How workers share servers, shown on a shell instead of a real one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.kit.process import ChildProcess, start_all
from tests.kit.shared import SharedServers, servers_of


class _Shell:
    """A server that prints its process id."""

    made = 0

    def __init__(self) -> None:
        _Shell.made += 1
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        script = ["sh", "-c", "echo $$; sleep 60"]
        self.process = ChildProcess(
            "shell", script, log=folder / "log", cwd=folder, ready=_is_ready
        )

    def __getstate__(self) -> dict[str, object]:
        return {"process": self.process}

    def __enter__(self) -> Self:
        start_all([self.process], deadline_seconds=10)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self._folder.cleanup()


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
    first, second = (servers_of(folder).get("shell").process for _ in range(2))
    assert _Shell.made == 1
    assert first.pid == second.pid == int(first.output())
    pid = first.pid

    first.kill()
    assert not second.running
    start_all([second], deadline_seconds=10)

    assert first.pid == second.pid != pid
    own = shared.get("shell")
    assert isinstance(own, _Shell)
    shared.close()
    assert not own.process.running


def test_no_two_tests_have_one_server(shared: SharedServers) -> None:
    """As many as there are can be had at once; one that is given back is free."""
    workers = [servers_of(str(shared.listen())) for _ in range(2)]
    with ExitStack() as stack:
        numbers = [stack.enter_context(one.locked("shell", 2)) for one in workers]
        assert numbers == [0, 1]
    with workers[1].locked("shell", 2) as number:
        assert number == 0
