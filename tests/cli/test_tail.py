"""`bridge tail` as a process: its lines, its table, and what ends it."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.cli.commands import DEADLINE_SECONDS, drawn, reading, run
from tests.conftest import Topic
from tests.consumer.letters import Sent, payload, write


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


def test_records_are_chosen_by_key_and_partition(topic: Topic) -> None:
    """Others are left out, and don't count; a partition that isn't there is named."""
    records = [
        Sent(payload(job), job.encode(), partition=partition)
        for partition, job in ((0, "job-1"), (1, "job-1"), (0, "job-2"), (0, "job-1"))
    ]
    write(topic, records, name=topic.name)
    line = reading(topic, "tail", "--from-beginning", "--max-messages=2")
    found = run([*line, "--key=job-1", "--partition=0"]).stdout.splitlines()
    assert [json.loads(one)["offset"] for one in found] == [0, 2]
    result = run([*line, "--partition=9"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"bridge: --partition: {topic.name} has no partition 9\n"


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
    """Without a reader the write blocks, and Ctrl-C still ends it."""
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
    line = reading(topic, "tail", "--from-beginning", "--max-messages", "3")
    code, output, _ = drawn(line, "stdout", "stderr")
    before, _, after = output.rpartition(b"\x1b[?1049l")
    assert code == 0
    assert b"\x1b[?1049h" in before
    text = after.decode()
    assert "job-1" in text
    assert "done" in text
    assert "SECRET" not in output.decode()
