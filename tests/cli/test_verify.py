"""`bridge verify` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.conftest import Topic
from tests.consumer.verify.topics import Sent, rows, write
from tests.outbox.making import record


# Far more than the second that a start takes here, below a test's 60 s.
_DEADLINE_SECONDS = 30.0

# A hostile name: it would clear the terminal.
_ESCAPE = "\x1b[2J"


def command(topic: Topic, *options: str) -> list[str]:
    """The command line for a topic."""
    servers = topic.bootstrap_servers
    verify = ["verify", "--topic", topic.name, "--bootstrap-servers", servers]
    return [sys.executable, "-m", "bridge", *verify, *options]


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False
    )


def test_a_clean_topic_ends_with_0(topic: Topic) -> None:
    """The table and the verdict stand on standard output, nothing beside it."""
    write(topic, rows(1, 2, 3))
    result = run(command(topic))
    assert (result.returncode, result.stderr) == (0, "")
    assert "Clean: no hole, no duplicate, no reordering. 3 records" in result.stdout
    assert "can't be proven from the topic" in result.stdout


def test_findings_end_with_1(topic: Topic) -> None:
    """Each is a line with topic, partition and offset."""
    write(topic, [*rows(1, 4, 4), Sent(1, outbox=f"x{_ESCAPE}")])
    result = run(command(topic))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{topic.name}-0@1 hole: sequences 2-3 of outbox ")
    assert lines[0].endswith(", after offset 0")
    assert lines[1].startswith(f"{topic.name}-0@2 duplicate: sequence 4 of outbox ")
    assert lines[-1].startswith("Not clean: 2 hole (sequences that no record has); 1 ")
    assert "\x1b" not in result.stdout


def test_json_is_one_object(topic: Topic) -> None:
    """Programs get all of it, with the same exit code."""
    write(topic, rows(1, 3))
    result = run(command(topic, "--json"))
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert (report["clean"], report["records"], report["counts"]) == (
        False,
        2,
        {"hole": 1},
    )
    (finding,) = report["findings"]
    assert (finding["partition"], finding["offset"], finding["after_offset"]) == (
        0,
        1,
        0,
    )


def test_the_outbox_is_asked(topic: Topic, tmp_path: Path) -> None:
    """A row that it holds for delivered and that isn't there is a finding."""
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=tmp_path))
        outbox.open_topic(topic.name, 1, None)
        outbox.continue_behind(topic.name, {0: (0, 0, ())})
        outbox.offer([record("job-1", topic=topic.name) for _ in range(5)])
        outbox.commit()
        outbox.acknowledge(topic.name, 0, 1, 3, 0, 10)
        outbox.close()
    result = run(command(topic, "--outbox-dir", str(tmp_path), "--json"))
    assert (result.returncode, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    assert report["counts"] == {"missing_end": 3}
    (lane,) = report["lanes"]
    assert (lane["end"], lane["waiting"]) == ("missing", 2)


def test_an_outbox_of_another_topic_is_told(topic: Topic, tmp_path: Path) -> None:
    """It can prove nothing here, which is no finding."""
    with OutboxDirectory(tmp_path) as directory:
        Outbox(directory, OutboxSettings(dir=tmp_path)).close()
    result = run(command(topic, "--outbox-dir", str(tmp_path)))
    assert result.returncode == 0
    assert f"without records of {topic.name}" in result.stderr


def test_a_missing_topic_is_one_line(topic: Topic) -> None:
    """The error names the topic and ends with the code for Kafka's refusals."""
    line = command(topic)
    line[line.index(topic.name)] = "nothing-here"
    result = run(line)
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert "nothing-here" in message


def test_no_broker_is_one_line() -> None:
    """The error names the setting and the address."""
    address = "127.0.0.1:1"  # nobody listens on tcpmux
    line = [sys.executable, "-m", "bridge", "verify", "--bootstrap-servers", address]
    result = run(line)
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert address in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_proves_nothing(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it at once; it says so, and is no success."""
    # A broker that takes the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        child = subprocess.Popen(
            [sys.executable, "-m", "bridge", "verify", "--bootstrap-servers", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.settimeout(_DEADLINE_SECONDS)
        connection, _ = server.accept()
        child.send_signal(number)
        out, errors = child.communicate(timeout=_DEADLINE_SECONDS)
        connection.close()
    assert (child.returncode, out) == (1, "")
    assert errors == "bridge: interrupted after 0 of 0 offsets; that proves nothing.\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--since", "soon"], "10m"),
        (["--isolation", "none"], "read_uncommitted"),
        (["--outbox-dir", "/nonexistent"], "holds no outbox"),
    ],
)
def test_wrong_options_say_what_is_expected(
    invoke: Callable[..., Result], options: list[str], words: str
) -> None:
    """Usage errors end with 2 and a line that helps."""
    result = invoke("verify", *options)
    assert result.exit_code == 2
    assert words in result.output


def test_a_terminal_gets_a_bar_that_goes(topic: Topic) -> None:
    """Progress is drawn on the terminal and taken away at the end."""
    write(topic, rows(1, 2, 3))
    leader, follower = pty.openpty()
    result = subprocess.run(
        command(topic),
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=_DEADLINE_SECONDS,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    drawn = os.read(leader, 65_536)
    os.close(leader)
    assert result.returncode == 0
    assert topic.name.encode() in drawn
    assert b"\x1b[?25h" in drawn  # the cursor is back
