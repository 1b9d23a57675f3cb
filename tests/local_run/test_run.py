"""A whole run as a user starts it: what it says, its exit code, and what it leaves."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.kit.broker import EXISTING_VARIABLE, KafkaBroker


# A run of five seconds takes twelve here; below pytest's 60 s.
_DEADLINE_SECONDS = 50.0
# Promised for the time from Ctrl-C until all has gone.
_STOP_SECONDS = 10.0
# Every process of a run inherits it: so what is left over can be found.
_MARK = "LOCAL_RUN_TEST"


class Runner:
    """
    Starts runs that can be told from anything else on this machine.

    Args:
        folder: The temporary directory that the runs see.
        kafka: An existing broker that they shall use; None for their own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self.process: subprocess.Popen[str] | None = None

    def environment(self, kafka: str | None) -> dict[str, str]:
        """Give the environment of a run."""
        kept = {name: v for name, v in os.environ.items() if name != EXISTING_VARIABLE}
        added = {_MARK: self._mark, "TMPDIR": str(self.folder)}
        if kafka is not None:
            added[EXISTING_VARIABLE] = kafka
        return kept | added

    @staticmethod
    def command(*options: str) -> list[str]:
        """Give the command line of a run."""
        return [sys.executable, "-m", "tests.local_run", *options]

    def start(self, *options: str, kafka: str | None = None) -> subprocess.Popen[str]:
        """Start a run with its output in pipes."""
        self.process = subprocess.Popen(
            self.command(*options),
            env=self.environment(kafka),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.process

    def left(self) -> list[psutil.Process]:
        """List the processes that belong to a run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self._mark:
                    found.append(process)
            except psutil.Error:  # gone meanwhile, or somebody else's
                continue
        return found

    def bridge(self) -> psutil.Process:
        """Find the bridge's own process of a run."""
        (found,) = (
            process
            for process in self.left()
            if process.cmdline()[1:4] == ["-m", "bridge", "--topic"]
        )
        return found

    def assert_nothing_left(self, output: str) -> None:
        """Check processes, the temporary directory and the ports that were said."""
        assert self.left() == []
        assert list(self.folder.iterdir()) == []
        ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", output)}
        assert len(ports) >= 4
        for port in ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """A runner whose runs end with the test."""
    made = Runner(tmp_path)
    yield made
    for process in made.left():
        process.kill()
    if made.process is not None:
        made.process.communicate()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read a run's output up to a line with these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join([*lines, process.communicate()[1]]))


def numbers_of(output: str) -> dict[str, str]:
    """The summary's rows."""
    rows = re.findall(r"│ (\S.*?) +│ +(\S.*?) +│", output)
    return dict(rows)


@pytest.mark.usefixtures("kafka")
def test_a_timed_run_agrees_and_leaves_nothing(runner: Runner) -> None:
    """It prints lines and a summary whose counts agree, and ends with 0."""
    process = runner.start("--for", "5", "--rate", "40")
    output, errors = process.communicate(timeout=_DEADLINE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    numbers = numbers_of(output)
    emitted = int(numbers["emitted by the sandbox"].replace(",", ""))
    assert emitted > 100
    assert numbers["read by the bridge"] == numbers["emitted by the sandbox"]
    healed = int(numbers["told on another way"])
    for name in ("on the topic", "consumed by the live view"):
        assert int(numbers[name].replace(",", "")) == emitted + healed
    assert numbers["dead letters"] == "0"
    assert numbers["p99 from emission to consumption"].endswith(" ms")
    for words in (
        "bridge tail",
        "kcat -C",
        "kafka-console-consumer",
        "confluent_kafka",
    ):
        assert words in output
    assert re.search(r"\d s  emitted [1-9]", output)
    assert "\x1b" not in output
    runner.assert_nothing_left(output)


def test_an_existing_broker_keeps_no_topic(runner: Runner, kafka: KafkaBroker) -> None:
    """A run on somebody's broker agrees as well and removes the topics it made."""
    process = runner.start("--for", "2", kafka=kafka.bootstrap_servers)
    output, errors = process.communicate(timeout=_DEADLINE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    (topic,) = set(re.findall(r"topic (jobs-[0-9a-f]{8})", output))
    present = kafka._admin().list_topics(timeout=10).topics
    assert [name for name in present if name.startswith(topic)] == []


def test_a_process_that_dies_ends_the_run(runner: Runner, kafka: KafkaBroker) -> None:
    """The run says which one it was, shows its log's end and exits with 1."""
    process = runner.start(kafka=kafka.bootstrap_servers)
    output = read_until(process, "emitted")
    runner.bridge().kill()
    rest, errors = process.communicate(timeout=_STOP_SECONDS)
    assert process.returncode == 1
    first, *tail = errors.splitlines()
    assert first.startswith("make run: the bridge was ended by SIGKILL")
    assert tail
    assert "Traceback" not in errors
    assert runner.left() == []
    assert list(runner.folder.iterdir()) == []
    assert "Stopping" in output + rest


@pytest.mark.usefixtures("kafka")
def test_a_killed_run_leaves_nothing_either(runner: Runner) -> None:
    """It shows jobs on its board; whatever kills it, all it started goes with it."""
    process = runner.start()
    output = read_until(process, "emitted")
    assert jobs_on_the_board(output)
    process.kill()
    process.communicate(timeout=_STOP_SECONDS)
    wait_until(lambda: not runner.left() and not list(runner.folder.iterdir()))
    runner.assert_nothing_left(output)


@pytest.mark.usefixtures("kafka")
def test_ctrl_c_stops_everything_in_time(runner: Runner) -> None:
    """On a terminal the table is shown; Ctrl-C, even twice, ends all within 10 s."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = runner.environment(None) | {"TERM": "xterm-256color"}
        line = runner.command()
        os.execve(line[0], line, environment)  # noqa: S606 - the program under test
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    output = read_terminal(terminal, until="in_progress")
    os.write(terminal, b"\x03")
    pressed = time.monotonic()
    time.sleep(0.1)
    os.write(terminal, b"\x03")
    output += read_terminal(terminal, until=None)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert time.monotonic() - pressed < _STOP_SECONDS
    assert os.waitstatus_to_exitcode(status) == 0
    before, _, after = output.rpartition("\x1b[?1049l")
    assert "events/s" in before
    assert "See the jobs in a browser: http://127.0.0.1:" in before
    assert "in_progress" in after
    assert "Stopping" in after
    assert "Traceback" not in output
    runner.assert_nothing_left(output)


def jobs_on_the_board(output: str) -> list[dict[str, Any]]:
    """Open the board whose address a run has said, and wait until it shows jobs."""
    (port,) = re.findall(r"browser:\n\n  http://127\.0\.0\.1:(\d+)/\n", output)
    board = HTTPConnection("127.0.0.1", int(port), timeout=_STOP_SECONDS)
    with contextlib.closing(board):
        board.request("GET", "/")
        assert b"<title>" in board.getresponse().read()
        board.request("GET", "/events")
        for line in board.getresponse():
            jobs = json.loads(line[6:])["jobs"] if line.startswith(b"data: ") else []
            if jobs:
                return list(jobs)
    raise AssertionError("The board ended.")


def read_terminal(terminal: int, *, until: str | None) -> str:
    """Read from a terminal up to these words, or to its end."""
    output = b""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # Linux's word for the end of a terminal
            piece = b""
        output += piece
        if not piece or (until is not None and until.encode() in output):
            break
    return output.decode(errors="replace")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + _STOP_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
