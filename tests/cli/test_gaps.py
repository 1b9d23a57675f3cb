"""`bridge gaps` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from click.testing import Result

from tests.conftest import Topic
from tests.consumer.dead_letters.letters import Sent, write
from tests.consumer.gaps.ledger import settled, value, values_of_ledger


# Far more than the second that a start takes here, below a test's 60 s.
_DEADLINE_SECONDS = 30.0

# A hostile text: it would clear the terminal and set its title.
_ESCAPES = "\x1b[2J\x1b]0;owned\x07"


def command(topic: Topic, *options: str) -> list[str]:
    """The command line for a topic's gaps."""
    servers = topic.bootstrap_servers
    where = ["--topic", topic.name, "--bootstrap-servers", servers]
    return [sys.executable, "-m", "bridge", "gaps", *options, *where]


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False
    )


def tell(topic: Topic, values: Iterable[bytes | None]) -> None:
    """Write the records of gaps."""
    sent = [Sent(value, b"client-42", {}) for value in values]
    write(topic, sent, name=topic.gaps)


def test_the_ledger_is_a_table_with_its_totals(topic: Topic) -> None:
    """Each gap once as its last record has it, and what was lost for good."""
    tell(topic, [*values_of_ledger(), b"no gap"])
    result = run(command(topic))
    assert (result.returncode, result.stderr) == (0, "")
    head, deaf, start, stopped, gaps, jobs, note = result.stdout.splitlines()
    assert head.split()[:2] == ["since", "(UTC)"]
    assert (deaf.split()[3], deaf.split()[-1]) == ("deaf", "open")
    assert start.split()[-1] == "closed"
    assert stopped.split()[-6:] == ["client-42", "4", "1", "2", "1", "settled"]
    assert gaps.startswith(f"3 gaps on {topic.gaps} (1 open, 1 closed, 1 settled)")
    assert "1 unknown: lost for good" in jobs
    assert note.startswith(f"note: 1 record is no gap: {topic.gaps}-0@")


def test_gaps_are_chosen_and_written_as_json(topic: Topic) -> None:
    """By account, cause, time and state; a cause that no gap has is told."""
    now = datetime.now(UTC).isoformat()
    tell(
        topic,
        [
            settled("a", unknown=2),
            settled("b", client_id="other"),
            settled("c", until=now, unknown=1),
            value("d", cause="deaf", until=None),
        ],
    )

    def chosen(*options: str) -> list[str]:
        result = run(command(topic, "--json", *options))
        assert result.returncode == 0
        report = json.loads(result.stdout)
        assert report["totals"]["gaps"] == len(report["gaps"])
        return [gap["gap_id"] for gap in report["gaps"]]

    assert sorted(chosen("--client-id", "client-42")) == ["a", "c", "d"]
    assert chosen("--unknown", "--since", "1h") == ["c"]
    assert chosen("--open") == ["d"]
    result = run(command(topic, "--cause", "def"))
    assert result.stdout == f"{topic.gaps} holds no gaps such as those.\n"
    assert result.stderr == (
        "bridge: no gap has the cause 'def'; those that are there: 'deaf', "
        "'disconnected'.\n"
    )


def test_nothing_of_a_record_commands_the_terminal(topic: Topic) -> None:
    """Escapes in an account, a cause and what is no gap are shown as what they are."""
    hostile = value(client_id=f"c{_ESCAPES}", cause=f"x{_ESCAPES}")
    tell(topic, [hostile, _ESCAPES.encode()])
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        command(topic, "--cause", "deaf"),
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300", "NO_COLOR": "1"},
    )
    shown = subprocess.Popen(
        command(topic),
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300", "NO_COLOR": "1"},
    )
    assert child.wait(_DEADLINE_SECONDS) == shown.wait(_DEADLINE_SECONDS) == 0
    os.close(follower)
    drawn = os.read(leader, 65_536)
    os.close(leader)
    assert drawn.count(b"\\x1b[2J") >= 3
    # The bar of how far it has come moves the cursor; nothing clears or names.
    assert b"\x1b[2J" not in drawn
    assert b"\x1b]0;owned" not in drawn
    assert b"\x07" not in drawn


def test_an_empty_topic_and_a_missing_one_have_a_sentence(topic: Topic) -> None:
    """Nothing there is no failure; no topic is one, with Kafka's exit code."""
    result = run(command(topic))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{topic.gaps} holds no gaps.\n"
    result = run(command(topic, "--gap-topic", "nothing-here"))
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert "nothing-here" in message


def test_a_signal_ends_it() -> None:
    """It says that it wasn't through."""
    # A broker that takes the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        child = subprocess.Popen(
            [sys.executable, "-m", "bridge", "gaps", "--bootstrap-servers", address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.settimeout(_DEADLINE_SECONDS)
        connection, _ = server.accept()
        child.send_signal(signal.SIGTERM)
        out, errors = child.communicate(timeout=_DEADLINE_SECONDS)
        connection.close()
    assert (child.returncode, out) == (1, "")
    assert errors == "bridge: interrupted after 0 of 0 offsets.\n"


@pytest.mark.parametrize(
    ("options", "words"), [(["--since", "soon"], "10m"), (["--opne"], "--open")]
)
def test_wrong_options_say_what_is_expected(
    invoke: Callable[..., Result], options: list[str], words: str
) -> None:
    """Usage errors end with 2 and a line that helps."""
    result = invoke("gaps", *options)
    assert result.exit_code == 2
    assert words in result.output
