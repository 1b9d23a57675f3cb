"""`bridge tail` as a process: its lines, its table, and what ends it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.cli.commands import DEADLINE_SECONDS, reading, run
from tests.conftest import Topic
from tests.consumer.dead_letters.letters import Sent, payload, write


def produce(topic: Topic, *statuses: str) -> None:
    """Write one job's events."""
    url = "https://results.example/a?sig=SECRET"
    values = [
        payload("job-1", status, progress=f"{number}.00", result_url=url)
        for number, status in enumerate(statuses)
    ]
    write(topic, [Sent(value, b"job-1") for value in values], name=topic.name)


@pytest.fixture
def start() -> Iterator[Callable[[Sequence[str]], subprocess.Popen[str]]]:
    """Start commands with their output in a pipe; none outlives the test."""
    children: list[subprocess.Popen[str]] = []

    def begin(line: Sequence[str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def test_records_are_lines_of_json_when_piped(topic: Topic) -> None:
    """Standard output is the records and nothing else."""
    produce(topic, "processing", "in_progress", "done", "done")
    result = run(reading(topic, "tail", "--from-beginning", "--max-messages", "3"))
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["value"]["status"] for line in lines] == [
        "processing",
        "in_progress",
        "done",
    ]
    assert lines[0]["value"]["result_url"].endswith("?sig=SECRET")
    assert {line["key"] for line in lines} == {"job-1"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    topic: Topic,
    start: Callable[[Sequence[str]], subprocess.Popen[str]],
    number: signal.Signals,
) -> None:
    """Ctrl-C and SIGTERM end it with 0, every line whole, nothing on stderr."""
    produce(topic, "processing")
    child = start(reading(topic, "tail", "--since", "10m"))
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["key"] == "job-1"
    child.send_signal(number)
    rest, errors = child.communicate(timeout=DEADLINE_SECONDS)
    assert (child.returncode, rest, errors.strip()) == (0, "", "")


def test_a_signal_ends_it_while_the_pipe_is_full(
    topic: Topic, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    """Nobody reads, the write blocks, and Ctrl-C still ends it."""
    produce(topic, *["in_progress"] * 2_000)
    child = start(reading(topic, "tail", "--from-beginning"))
    assert child.stdout is not None
    select.select([child.stdout], [], [], DEADLINE_SECONDS)
    time.sleep(0.5)  # the pipe's 64 KiB fill within milliseconds
    child.send_signal(signal.SIGINT)
    assert child.wait(DEADLINE_SECONDS) == 0


def test_a_terminal_gets_a_table_that_stays(topic: Topic) -> None:
    """The table is drawn on the alternate screen, and its last form is left."""
    produce(topic, "processing", "in_progress", "done")
    code, output = on_terminal(reading(topic, "tail", "--from-beginning"))
    before, _, after = output.rpartition(b"\x1b[?1049l")
    assert code == 0
    assert b"\x1b[?1049h" in before
    text = after.decode()
    assert "job-1" in text
    assert "done" in text
    assert "SECRET" not in output.decode()


def on_terminal(line: Sequence[str]) -> tuple[int, bytes]:
    """Run a command on a terminal of 80 by 24, press Ctrl-C when it shows a job."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(line[0], list(line))  # noqa: S606 - the command under test
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    output = b""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pressed = False
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    piece = os.read(terminal, 65_536)
                except OSError:  # Linux's word for the end of a terminal
                    break
                if not piece:
                    break
                output += piece
            if b"job-1" in output and not pressed:
                os.write(terminal, b"\x03")
                pressed = True
    finally:
        os.close(terminal)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), output
