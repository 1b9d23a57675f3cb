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
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from click.testing import Result
from confluent_kafka import Producer

from tests.conftest import Topic


# Far more than the 0.5 s that a start takes here, below a test's 60 s.
_DEADLINE_SECONDS = 20.0


def produce(topic: Topic, *statuses: str) -> None:
    """Write one job's events."""
    producer = Producer({"bootstrap.servers": topic.bootstrap_servers})
    for number, status in enumerate(statuses):
        value = {
            "request_id": "job-1",
            "status": status,
            "progress": f"{number}.00",
            "result_url": "https://results.example/a?sig=SECRET",
        }
        producer.produce(topic.name, json.dumps(value).encode(), b"job-1")
    assert producer.flush(_DEADLINE_SECONDS) == 0


def command(topic: Topic, *options: str) -> list[str]:
    """The command line for a topic."""
    servers = topic.bootstrap_servers
    tail = ["tail", "--topic", topic.name, "--bootstrap-servers", servers, *options]
    return [sys.executable, "-m", "bridge", *tail]


def run(line: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False
    )


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
    produce(topic, "processing", "in_progress", "done")
    result = run(command(topic, "--from-beginning", "--max-messages", "3"))
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
    child = start(command(topic, "--since", "10m"))
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["key"] == "job-1"
    child.send_signal(number)
    rest, errors = child.communicate(timeout=_DEADLINE_SECONDS)
    assert (child.returncode, rest, errors.strip()) == (0, "", "")


def test_a_signal_ends_it_while_the_pipe_is_full(
    topic: Topic, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    """Nobody reads, the write blocks, and Ctrl-C still ends it."""
    produce(topic, *["in_progress"] * 2_000)
    child = start(command(topic, "--from-beginning"))
    assert child.stdout is not None
    select.select([child.stdout], [], [], _DEADLINE_SECONDS)
    time.sleep(0.5)  # the pipe's 64 KiB fill within milliseconds
    child.send_signal(signal.SIGINT)
    assert child.wait(_DEADLINE_SECONDS) == 0


def test_a_closed_pipe_ends_it_quietly(
    topic: Topic, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    """As in `bridge tail | head -1`: no traceback, no message."""
    produce(topic, *["in_progress"] * 2_000)
    child = start(command(topic, "--from-beginning"))
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(_DEADLINE_SECONDS) == 0
    assert child.stderr.read() == ""


def test_a_missing_topic_is_one_line(topic: Topic) -> None:
    """The error names the topic and ends with the code for Kafka's refusals."""
    line = command(topic)
    line[line.index(topic.name)] = "nothing-here"
    result = run(line)
    assert result.returncode == 4
    assert result.stdout == ""
    (message,) = result.stderr.splitlines()
    assert message.startswith("bridge: Kafka at")
    assert "nothing-here" in message


def test_no_broker_is_one_line() -> None:
    """The error names the setting and the address."""
    address = "127.0.0.1:1"  # nobody listens on tcpmux
    line = [sys.executable, "-m", "bridge", "tail", "--bootstrap-servers", address]
    result = run(line)
    assert result.returncode == 4
    (message,) = result.stderr.splitlines()
    assert address in message
    assert "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--since", "soon"], "10m"),
        (["--since", "1h", "--from-beginning"], "exclude each other"),
        (["--max-messages", "0"], "x>=1"),
    ],
)
def test_wrong_options_say_what_is_expected(
    invoke: Callable[..., Result], options: list[str], words: str
) -> None:
    """Usage errors end with 2 and a line that helps."""
    result = invoke("tail", *options)
    assert result.exit_code == 2
    assert words in result.output


def test_a_terminal_gets_a_table_that_stays(topic: Topic) -> None:
    """The table is drawn on the alternate screen, and its last form is left."""
    produce(topic, "processing", "in_progress", "done")
    code, output = on_terminal(command(topic, "--from-beginning"))
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
    deadline = time.monotonic() + _DEADLINE_SECONDS
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
