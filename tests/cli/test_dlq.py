"""`bridge dlq` as a process: what it prints, its exit code, and what ends it."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from click.testing import Result

from tests.conftest import Topic
from tests.consumer.dead_letters.letters import NOW_MS, Sent, sent, write


# Far more than the second that a start takes here, below a test's 60 s.
_DEADLINE_SECONDS = 30.0

_UTC = "%Y-%m-%dT%H:%M:%SZ"

# A hostile text: it would clear the terminal and set its title.
_ESCAPES = "\x1b[2J\x1b]0;owned\x07"


def command(topic: Topic, *options: str) -> list[str]:
    """The command line for a topic's dead letters."""
    servers = topic.bootstrap_servers
    where = ["--topic", topic.name, "--bootstrap-servers", servers]
    return [sys.executable, "-m", "bridge", "dlq", *options, *where]


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        line, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False
    )


def test_the_list_is_a_table_by_reason(topic: Topic) -> None:
    """Count, first, last and the last one's place, key and message; exit code 0."""
    write(
        topic,
        [
            sent(b"[", "not_json", timestamp_ms=NOW_MS, message="no JSON"),
            sent(b"{}", key="job-1", timestamp_ms=NOW_MS + 1000),
            sent(b"{}", key="job-2", timestamp_ms=NOW_MS + 9000),
        ],
    )
    result = run(command(topic, "list"))
    assert (result.returncode, result.stderr) == (0, "")
    head, first, second, last = result.stdout.splitlines()
    assert head.split()[:2] == ["reason", "count"]
    assert first.split()[:4] == [
        "invalid_field",
        "2",
        time.strftime(_UTC, time.gmtime(NOW_MS // 1000 + 1)),
        time.strftime(_UTC, time.gmtime(NOW_MS // 1000 + 9)),
    ]
    assert f"{topic.dead_letter}-0@2 job-2: progress is an array" in first
    assert second.split()[:2] == ["not_json", "1"]
    assert last.startswith(f"3 dead letters on {topic.dead_letter}.")


def test_what_no_bridge_of_this_version_wrote_is_shown_as_such(topic: Topic) -> None:
    """A newer bridge's reason is a row; Kafka Connect's letters have none."""
    connects = {"__connect.errors.exception.message": b"Failed to deserialize"}
    write(
        topic, [sent(b"{}", "too_pretty"), Sent(b"x", b"k", connects), Sent(None, None)]
    )
    result = run(command(topic, "list", "--json"))
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["topic"], report["count"]) == (topic.dead_letter, 3)
    none, pretty = report["reasons"]
    assert (none["reason"], none["count"]) == ("(none)", 2)
    assert (pretty["reason"], pretty["count"]) == ("too_pretty", 1)
    assert pretty["example"]["place"] == f"{topic.dead_letter}-0@0"
    chosen = run(command(topic, "list", "--reason", "none"))
    assert "Failed to deserialize" in chosen.stdout
    assert chosen.stdout.splitlines()[-1].startswith("2 dead letters")


def test_single_letters_come_newest_last_and_limited(topic: Topic) -> None:
    """With --reason the letters themselves are shown, or written as JSON lines."""
    letters = [
        sent(b'{"n": %d}' % number, timestamp_ms=NOW_MS - number) for number in range(5)
    ]
    write(topic, [*letters, sent(b"[", "not_json")])
    choice = ["list", "--reason", "invalid_field", "--limit", "3"]
    shown = run(command(topic, *choice))
    assert shown.returncode == 0
    values = [line.strip() for line in shown.stdout.splitlines() if '"n"' in line]
    assert values == ['{"n": 2}', '{"n": 1}', '{"n": 0}']
    assert shown.stdout.splitlines()[-1].startswith("3 of 5 dead letters")
    lines = run(command(topic, *choice, "--json")).stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [
        {"n": n} for n in (2, 1, 0)
    ]


def test_since_leaves_older_ones_out(topic: Topic) -> None:
    """Also those that stand behind a younger one."""
    now_ms = int(time.time() * 1000)
    write(
        topic,
        [
            sent(b"{}", timestamp_ms=now_ms - 7_200_000),
            sent(b"{}", timestamp_ms=now_ms - 60_000),
            sent(b"{}", timestamp_ms=now_ms - 7_200_000),
        ],
    )
    report = json.loads(run(command(topic, "list", "--since", "1h", "--json")).stdout)
    assert report["count"] == 1


@pytest.mark.parametrize("options", [[], ["--reason", f"bad{_ESCAPES}"]])
def test_nothing_of_a_letter_commands_the_terminal(
    topic: Topic, options: list[str]
) -> None:
    """Escapes in key, value, reason and message are shown as what they are."""
    write(
        topic,
        [
            sent(
                f"\xff{_ESCAPES}".encode("latin-1"),
                f"bad{_ESCAPES}",
                key=f"k{_ESCAPES}",
                message=f"m{_ESCAPES}[bold]\N{RIGHT-TO-LEFT OVERRIDE}",
            )
        ],
    )
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        command(topic, "list", *options),
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300", "NO_COLOR": "1"},
    )
    _, errors = child.communicate(timeout=_DEADLINE_SECONDS)
    os.close(follower)
    drawn = os.read(leader, 65_536)
    os.close(leader)
    assert (child.returncode, errors) == (0, b"")
    assert b"bad" in drawn
    assert b"\\x1b[2J" in drawn
    assert b"[bold]\\u202e" in drawn
    assert b"\x1b[2J" not in drawn
    assert b"\x07" not in drawn
    assert "\N{RIGHT-TO-LEFT OVERRIDE}".encode() not in drawn


def test_a_reader_that_has_seen_enough_ends_it(topic: Topic) -> None:
    """`bridge dlq list ... | head -1` shows no traceback."""
    write(topic, [sent(b"{}" * 1000) for _ in range(300)])
    line = command(topic, "list", "--reason", "invalid_field", "--limit", "300")
    for options in ([], ["--json"]):
        child = subprocess.Popen(
            [*line, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr is not None
        with child.stderr as errors:
            assert b"Traceback" not in errors.read()
        child.wait(_DEADLINE_SECONDS)


def test_an_empty_topic_has_a_sentence(topic: Topic) -> None:
    """Nothing there is no failure."""
    result = run(command(topic, "list"))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{topic.dead_letter} holds no dead letters.\n"


def test_an_unknown_reason_names_the_known_ones(topic: Topic) -> None:
    """It is no failure either: a newer bridge's word is looked for all the same."""
    result = run(command(topic, "list", "--reason", "no_json"))
    assert result.returncode == 0
    assert result.stdout.startswith("0 dead letters")
    assert "not_json" in result.stderr


def test_a_missing_topic_is_one_line(topic: Topic) -> None:
    """The error names the topic and ends with the code for Kafka's refusals."""
    line = command(topic, "list", "--dead-letter-topic", "nothing-here")
    result = run(line)
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert "nothing-here" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_list(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it at once; it says that it wasn't through."""
    # A broker that takes the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        line = [sys.executable, "-m", "bridge", "dlq", "list"]
        child = subprocess.Popen(
            [*line, "--bootstrap-servers", address],
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
    assert errors == "bridge: interrupted after 0 of 0 offsets.\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["list", "--since", "soon"], "10m"),
        (["list", "--limit", "3"], "--reason"),
        (["shwo"], "No such command"),
        ([], "--help"),
    ],
)
def test_wrong_options_say_what_is_expected(
    invoke: Callable[..., Result], options: list[str], words: str
) -> None:
    """Usage errors end with 2 and a line that helps."""
    result = invoke("dlq", *options)
    assert result.exit_code == 2
    assert words in result.output
