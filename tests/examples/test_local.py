"""`make run` as a user starts it: its counts, its exit codes, and what it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.broker import EXISTING_VARIABLE, KafkaBroker


# Promised for the time from Ctrl-C until all has gone.
_STOP_SECONDS = 10.0
# Every process of a run inherits it, so that what is left over can be found.
_MARK = "LOCAL_RUN_TEST"


class _Runner:
    """One run, whose processes and files differ from any other's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex

    def start(self, *options: str, kafka: str | None = None) -> subprocess.Popen[str]:
        kept = {name: v for name, v in os.environ.items() if name != EXISTING_VARIABLE}
        own = {_MARK: self._mark, "TMPDIR": str(self.folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "examples.local", *options],
            env=kept | own | ({EXISTING_VARIABLE: kafka} if kafka else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self._mark:
                    found.append(process)
            except psutil.Error:  # gone meanwhile, or another user's
                continue
        return found

    def until_emitted(self, process: subprocess.Popen[str]) -> str:
        """Read the output up to the first line of counts."""
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(r"\d s  emitted [1-9]", line):
                return "".join(lines)
        raise AssertionError("".join([*lines, process.communicate()[1]]))

    def assert_nothing_left(self) -> None:
        assert self.left() == []
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[_Runner]:
    """A runner whose run ends with the test."""
    made = _Runner(tmp_path)
    yield made
    for process in made.left():
        process.kill()


@pytest.mark.connected
def test_a_timed_run_agrees_and_leaves_nothing(runner: _Runner) -> None:
    """With a Kafka of its own it prints counts that agree, and ends cleanly."""
    process = runner.start("--for", "3", "--rate", "40")
    output, errors = process.communicate(timeout=50)

    assert (process.returncode, errors) == (0, ""), output
    numbers = dict(re.findall(r"│ (\S.*?) +│ +(\S.*?) +│", output))
    assert int(numbers["emitted by the sandbox"]) > 60
    assert numbers["read by the bridge"] == numbers["emitted by the sandbox"]
    assert numbers["on the topic"] == numbers["consumed by the live view"]
    assert numbers["p99 from emission to consumption"].endswith(" ms")
    for words in ("bridge tail", "kcat -C", "kafka-console-consumer", "browser:"):
        assert words in output
    assert "\x1b" not in output
    runner.assert_nothing_left()


def test_ctrl_c_ends_all_and_removes_its_topics(
    runner: _Runner, kafka: KafkaBroker
) -> None:
    """Ctrl-C, even twice, ends all within 10 s; the broker in use keeps no topic."""
    process = runner.start(kafka=kafka.bootstrap_servers)
    output = runner.until_emitted(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=_STOP_SECONDS)

    assert (process.returncode, errors) == (0, "")
    assert "Everything has stopped" in rest
    runner.assert_nothing_left()
    (topic,) = set(re.findall(r"topics (jobs-[0-9a-f]{8})", output))
    present = kafka.admin.list_topics(timeout=10).topics
    assert [name for name in present if name.startswith(topic)] == []


def test_a_process_that_dies_ends_the_run(runner: _Runner, kafka: KafkaBroker) -> None:
    """The run names it, shows the end of its log, and exits with 1."""
    process = runner.start(kafka=kafka.bootstrap_servers)
    runner.until_emitted(process)
    (bridge,) = (
        each for each in runner.left() if each.cmdline()[2:4] == ["bridge", "--topic"]
    )
    bridge.kill()
    _, errors = process.communicate(timeout=_STOP_SECONDS)

    assert process.returncode == 1
    first, *tail = errors.splitlines()
    assert first.startswith("make run: the bridge was ended by SIGKILL")
    assert tail
    assert "Traceback" not in errors
    runner.assert_nothing_left()
