"""What the commands have in common that read topics, each as a process."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from tests.cli.commands import DEADLINE_SECONDS, ESCAPES, bridge, drawn, reading, run
from tests.cli.conftest import Invoke
from tests.conftest import Topic
from tests.consumer.dead_letters.letters import Sent, sent, write
from tests.consumer.gaps.ledger import value


# A port on which nobody listens: tcpmux.
_NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["dlq", "list"], "{}.dlq has no dead letters.\n"),
        (["gaps"], "{}.gaps has no gaps.\n"),
        (["gaps", "--output=json"], '"gaps": 0'),
    ],
)
def test_an_empty_topic_has_a_sentence(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    """Nothing there is no failure, and no account is needed to look."""
    monkeypatch.delenv("BRIDGE_CLIENT_ID")
    monkeypatch.delenv("BRIDGE_API_TOKEN")
    monkeypatch.setenv("BRIDGE_TOPC", "x")
    result = run(reading(topic, *args))
    assert result.returncode == 0
    assert said.format(topic.name) in result.stdout
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("bridge: warning: ")
    assert "BRIDGE_TOPIC" in warning


@pytest.mark.parametrize(
    "args",
    [
        ["tail", "--topic=nothing-here"],
        ["verify", "--topic=nothing-here"],
        ["gaps", "--gap-topic=nothing-here"],
        ["dlq", "list", "--dead-letter-topic=nothing-here"],
    ],
)
def test_a_missing_topic_is_one_line(topic: Topic, args: list[str]) -> None:
    """The error names the topic and ends with the code for Kafka's refusals."""
    result = run(bridge(*args, "--bootstrap-servers", topic.bootstrap_servers))
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert message.startswith("bridge: Kafka at")
    assert "nothing-here" in message


@pytest.mark.parametrize("args", [["tail"], ["verify"], ["gaps"], ["dlq", "list"]])
def test_no_broker_is_one_line(args: list[str]) -> None:
    """The error names the setting and the address."""
    result = run(bridge(*args, "--bootstrap-servers", _NOBODY))
    assert (result.returncode, result.stdout) == (4, "")
    (message,) = result.stderr.splitlines()
    assert _NOBODY in message
    assert "BRIDGE_KAFKA_BOOTSTRAP_SERVERS" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("args", [["dlq", "list"], ["gaps"], ["verify"]])
def test_a_signal_ends_it(args: list[str], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it at once; it says that it wasn't through."""
    # A broker that takes the connection and never answers.
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        child = subprocess.Popen(
            bridge(*args, "--bootstrap-servers", address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.settimeout(DEADLINE_SECONDS)
        connection, _ = server.accept()
        child.send_signal(number)
        out, errors = child.communicate(timeout=DEADLINE_SECONDS)
        connection.close()
    assert (child.returncode, out) == (1, "")
    assert errors == "bridge: interrupted after 0 of 0 offsets.\n"


@pytest.mark.parametrize(
    "args",
    [
        ["dlq", "list"],
        ["dlq", "list", "--reason", f"bad{ESCAPES}"],
        ["gaps"],
        ["gaps", "--cause", "deaf"],
    ],
)
def test_nothing_of_a_record_commands_the_terminal(
    topic: Topic, args: list[str]
) -> None:
    """Escapes of keys, values and headers are shown as what they are."""
    letter = sent(
        f"\xff{ESCAPES}".encode("latin-1"),
        f"bad{ESCAPES}",
        key=f"k{ESCAPES}",
        message=f"m{ESCAPES}[bold]\N{RIGHT-TO-LEFT OVERRIDE}",
    )
    hostile = value(
        client_id=f"c{ESCAPES}", cause=f"x{ESCAPES}[bold]\N{RIGHT-TO-LEFT OVERRIDE}"
    )
    write(topic, [letter])
    gaps = [Sent(one, b"client-42", {}) for one in (hostile, ESCAPES.encode())]
    write(topic, gaps, name=topic.gaps)
    line = reading(topic, *args)
    code, picture, _ = drawn(line, "stdout", "stderr", NO_COLOR="1")
    assert code == 0
    assert b"\\x1b[2J" in picture
    assert b"[bold]\\u202e" in picture
    # The bar of how far it has come moves the cursor; nothing clears or names.
    for hostile_bytes in (b"\x1b[2J", b"\x1b]0;owned", b"\x07", b"\xe2\x80\xae"):
        assert hostile_bytes not in picture


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["tail", "--since", "soon"], "1h30m"),
        (["tail", "--since", "1h", "--from-beginning"], "exclude each other"),
        (["tail", "--max-messages", "0"], "x>=1"),
        (["tail", "--partition", "-1"], "x>=0"),
        (["tail", "--bootstrap-servers", "k"], "kafka.bootstrap_servers ("),
        (["verify", "--since", "soon"], "1h30m"),
        (["verify", "--isolation", "none"], "read_uncommitted"),
        (["verify", "--outbox-dir", "/nonexistent"], "holds no outbox"),
        (["gaps", "--since", "soon"], "1h30m"),
        (["gaps", "--opne"], "--open"),
        (["dlq", "list", "--since", "soon"], "1h30m"),
        (["dlq", "list", "--limit", "3"], "--reason"),
        (["dlq", "shwo"], "No such command"),
        (["dlq", "replay", "--reason", "no_json"], "not_json"),
        (["dlq", "replay", "--outbox-dir", "/o"], "writer of its own"),
        (["dlq", "replay", "--bootstrap-servers", "nowhere"], "bootstrap_servers"),
    ],
)
def test_wrong_options_say_what_is_expected(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    """Usage errors end with 2 and a line that helps."""
    monkeypatch.setenv("BRIDGE_OUTBOX_DIR", "/o")
    result = invoke(*args)
    assert result.exit_code == 2
    assert words in result.output
