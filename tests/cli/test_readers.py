"""What the commands have in common that read topics, each as a process."""

from __future__ import annotations

import json
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.outbox import Outbox, OutboxDirectory
from bridge.settings import OutboxSettings
from tests.cli.commands import DEADLINE_SECONDS, ESCAPES, bridge, drawn, reading, run
from tests.cli.conftest import Invoke
from tests.conftest import Topic
from tests.consumer import topics
from tests.consumer.letters import Sent, sent, write
from tests.consumer.test_gaps import settled, value, values_of_ledger
from tests.outbox.making import record


# A port on which no program listens: tcpmux.
_NOBODY = "127.0.0.1:1"

# A terminal's command, a mark of the writing direction, a line end, a hidden letter.
_HOSTILE = "\x9b2J\u202e\u2028\U000e0001"


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
    "args",
    [
        ["tail", "--from-beginning", "--max-messages=1"],
        ["dlq", "list", "--output=json"],
        ["dlq", "list", f"--reason={_HOSTILE}", "--output=json"],
        ["gaps", "--output=json"],
        ["verify", "--output=json"],
    ],
)
def test_no_json_commands_the_terminal(topic: Topic, args: list[str]) -> None:
    """What JSON needn't escape and a terminal obeys is escaped, too."""
    hostile = _HOSTILE.encode()
    write(topic, [sent(hostile, _HOSTILE, key=_HOSTILE, message=_HOSTILE)])
    write(topic, [Sent(hostile, hostile, {})], name=topic.name)
    gap = value(client_id=_HOSTILE, cause=_HOSTILE)
    write(topic, [Sent(gap, b"client-42", {})], name=topic.gaps)
    result = run(reading(topic, *args))
    assert "{" in result.stdout
    for char in result.stdout.replace("\n", ""):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"}


class _EchoingBroker(socketserver.BaseRequestHandler):
    """Refuses SASL PLAIN, and repeats what it was sent with a command for terminals."""

    def handle(self) -> None:
        """Answer ApiVersions, SaslHandshake and SaslAuthenticate."""
        with self.request.makefile("rb") as received:
            while size := received.read(4):
                body = received.read(int.from_bytes(size))
                key, _, correlation, client = struct.unpack_from(">hhih", body)
                rest = body[10 + max(client, 0) :]
                if key == 18:
                    known = ((3, 0, 1), (17, 0, 1), (18, 0, 0), (36, 0, 0))
                    parts = (struct.pack(">hhh", *one) for one in known)
                    answer = struct.pack(">hi", 0, len(known)) + b"".join(parts)
                elif key == 17:
                    answer = struct.pack(">hih5s", 0, 1, 5, b"PLAIN")
                else:
                    words = b"refused:" + rest[4:].replace(b"\0", b":")
                    words += "\nbridge: forged \x1b[2J\x9b\u202e".encode()
                    answer = struct.pack(">hh", 58, len(words)) + words + bytes(4)
                size = struct.pack(">ii", 4 + len(answer), correlation)
                self.request.sendall(size + answer)


@pytest.fixture
def echoing_broker() -> Iterator[str]:
    """A broker that repeats credentials; gives its address."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _EchoingBroker) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.server_address[:2]
        yield f"{host!s}:{port}"
        server.shutdown()


@pytest.mark.parametrize(
    "args",
    [["tail"], ["gaps"], ["dlq", "list"], ["verify"], ["check"], ["board"]],
)
def test_a_password_that_a_broker_repeats_is_not_shown(
    echoing_broker: str, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """Neither it nor what the broker would have the terminal do."""
    for name, text in {
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "user-1",
        "SASL_PASSWORD": "canary-7d1f",
        "BOOTSTRAP_SERVERS": echoing_broker,
    }.items():
        monkeypatch.setenv(f"BRIDGE_KAFKA_{name}", text)
    monkeypatch.setenv("BRIDGE_BOARD_LISTEN", "127.0.0.1:0")
    result = run(bridge(*args))
    written = result.stdout + result.stderr
    assert "canary" not in written
    assert "refused:" in written
    assert not {"\x1b", "\x9b", "\u202e"} & set(written)
    assert "\nbridge: forged" not in written


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
    """Usage errors exit with code 2 and a line that helps."""
    monkeypatch.setenv("BRIDGE_OUTBOX_DIR", "/o")
    result = invoke(*args)
    assert result.exit_code == 2
    assert words in result.output


_NOON = "2026-01-31T12:00:"


def tell(topic: Topic, values: Iterable[bytes | None]) -> None:
    """Write the records of gaps."""
    sent = [Sent(value, b"client-42", {}) for value in values]
    write(topic, sent, name=topic.gaps)


def test_the_ledger_is_a_table_with_its_totals(topic: Topic) -> None:
    """Each gap once as its last record has it, and what was lost for good."""
    tell(topic, [*values_of_ledger(), b"no gap"])
    result = run(reading(topic, "gaps"))
    assert (result.returncode, result.stderr) == (0, "")
    *rows, gaps, jobs, note = result.stdout.splitlines()
    at = "2026-01-31T"
    columns = "since (UTC) until (UTC) seconds cause account"
    assert [" ".join(row.split()) for row in rows] == [
        f"{columns} in flight endpoint webhook unknown state",
        f"{at}12:00:00Z - - deaf client-42 - - - - open",
        f"- {at}11:59:30Z - first_start client-7 0 - - - closed",
        f"{at}11:59:00Z {at}11:59:04Z 4.5 stopped client-42 4 1 2 1 resolved",
    ]
    assert gaps == (
        f"3 gaps on {topic.gaps} (1 open, 1 closed, 1 resolved), 4.5 s in all: "
        "1 deaf (0.0 s), 1 first_start (0.0 s), 1 stopped (4.5 s)."
    )
    assert jobs == (
        "4 jobs in flight, 1 healed by the status endpoint, 2 by webhooks, 1 unknown: "
        "lost for good unless the endpoint or a webhook still reports them. "
        "A job counts once for each of its gaps. 2 gaps not resolved yet."
    )
    assert note.startswith(f"note: 1 record isn't a gap: {topic.gaps}-0@")


def test_gaps_are_chosen_and_written_as_json(topic: Topic) -> None:
    """By account, cause, time and state; a cause that no gap has is reported."""
    now = datetime.now(UTC).isoformat()
    tell(
        topic,
        [
            settled("a", unknown=2),
            settled("b", client_id="other"),
            settled("c", until=now, unknown=1),
            value("d", cause="deaf", until=None),
            b"x",
        ],
    )

    def report(*options: str) -> dict[str, Any]:
        result = run(reading(topic, "gaps", "--output=json", *options))
        assert result.returncode == 0
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def chosen(*options: str) -> list[str]:
        return [gap["gap_id"] for gap in report(*options)["gaps"]]

    assert sorted(chosen("--client-id", "client-42")) == ["a", "c", "d"]
    assert chosen("--unknown", "--since", "1h") == ["c"]
    # Those that were open then, whenever they had begun.
    assert sorted(chosen("--since", "1h")) == ["c", "d"]
    assert chosen("--open") == chosen("--cause", "deaf") == ["d"]
    # Members and times are those of the record, with what follows from them.
    counts = {
        "jobs_in_flight": 3,
        "healed_by_status_endpoint": 2,
        "healed_by_webhook": 1,
        "unknown": 0,
    }
    gap = {"gap_id": "b", "cause": "disconnected", "client_id": "other"}
    times = {"since": f"{_NOON}00.000000Z", "until": f"{_NOON}07.250000Z"}
    found = {"seconds": 7.25, "state": "resolved"}
    causes = {"disconnected": {"gaps": 1, "seconds": 7.25}}
    states = {"open": 0, "closed": 0, "resolved": 1}
    assert report("--client-id", "other") == {
        "topic": topic.gaps,
        "gaps": [gap | times | counts | found],
        "totals": {"gaps": 1, "seconds": 7.25, "causes": causes} | states | counts,
        "left_out": 0,
        "invalid": {
            "count": 1,
            "first": [{"place": f"{topic.gaps}-0@4", "reason": "it isn't JSON"}],
        },
    }
    result = run(reading(topic, "gaps", "--cause", "def"))
    assert result.stdout.startswith(f"{topic.gaps} has no such gaps.\nnote: 1 record")
    assert result.stderr == (
        "bridge: no gap has the cause 'def'; the causes are 'deaf', 'disconnected'.\n"
    )


def test_issues_end_with_1(topic: Topic) -> None:
    """Each is a line with topic, partition and offset."""
    topics.write(topic, [*topics.rows(1, 4, 4), topics.Sent(1, outbox=f"x{ESCAPES}")])
    result = run(reading(topic, "verify"))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{topic.name}-0@1 hole: sequences 2-3 of outbox ")
    assert lines[0].endswith(", after offset 0")
    assert lines[1].startswith(f"{topic.name}-0@2 duplicate: sequence 4 of outbox ")
    assert lines[-1].startswith("Not clean: 2 hole (sequences that no record has); 1 ")
    assert "\x1b" not in result.stdout


def test_the_outbox_is_asked(topic: Topic, tmp_path: Path) -> None:
    """A row that it holds for delivered and that isn't there is an issue."""
    with OutboxDirectory(tmp_path) as directory:
        outbox = Outbox(directory, OutboxSettings(dir=tmp_path))
        outbox.open_topic(topic.name, 1, None)
        outbox.continue_behind(topic.name, {0: (0, 0, ())})
        outbox.offer([record("job-1", topic=topic.name) for _ in range(5)])
        outbox.commit()
        outbox.acknowledge(topic.name, 0, 1, 3, 0, 10)
        outbox.close()
    flag = f"--outbox-dir={tmp_path}"
    result = run(reading(topic, "verify", flag, "--output=json"))
    assert (result.returncode, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    assert report["counts"] == {"missing_end": 3}
    (outbox_,) = report["outboxes"]
    assert (outbox_["end"], outbox_["waiting"]) == ("missing", 2)
