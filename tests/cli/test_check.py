"""`bridge check`: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import ExitCode
from tests.cli.commands import bridge, drawn
from tests.cli.conftest import Invoke
from tests.kit.process import free_ports


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Settings with which all servers refuse the connection; signals as before."""
    monkeypatch.setenv("BRIDGE_PUSHER_URL", f"ws://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("BRIDGE_API_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("BRIDGE_OUTBOX_DIR", str(tmp_path / "outbox"))
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("BRIDGE_KAFKA_BOOTSTRAP_SERVERS", servers)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def test_lines_have_an_outcome_and_failures_a_remedy(invoke: Invoke) -> None:
    """Into a pipe go plain words, one step a line, and the whole at the end."""
    result = invoke("check", "--topic", "events")
    assert result.exit_code == 1
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].split(maxsplit=2)[:2] == ["ok", "settings"]
    failed = next(n for n, line in enumerate(lines) if line.startswith("failure"))
    assert lines[failed].split()[:2] == ["failure", "pusher.tcp"]
    assert "Connection refused" in lines[failed]
    assert lines[failed + 1].startswith("          -> See that the server listens")
    assert any(
        line.startswith("skipped kafka.topics") and "events.gaps" in line
        for line in lines
    )
    assert lines[-1].startswith("The bridge would not work: ")
    assert lines[-1].endswith("Exit code 1.")


def test_json_is_one_object(invoke: Invoke) -> None:
    """Scripts get each step with its outcome, and the same exit code."""
    result = invoke("check", "--output=json")
    report = json.loads(result.stdout)
    assert result.exit_code == report["exit_code"] == ExitCode.FAILED
    assert report["outcome"] == "failure"
    assert 0 < report["seconds"] < 10
    servers = os.environ["BRIDGE_KAFKA_BOOTSTRAP_SERVERS"]
    by_step = {one["step"]: one for one in report["checks"]}
    assert by_step["settings"]["outcome"] == "ok"
    assert by_step["kafka.tcp"] == {
        "step": "kafka.tcp",
        "subject": servers,
        "outcome": "failure",
        "detail": f"can't reach {servers}: Connection refused",
        "remedy": by_step["kafka.tcp"]["remedy"],
        "exit_code": ExitCode.REFUSED_BY_KAFKA,
    }
    assert by_step["kafka.acls"]["outcome"] == "skipped"


def test_a_secret_in_the_wrong_place_is_hidden(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be repeated as the name of a host, in lines and in JSON."""
    monkeypatch.setenv("BRIDGE_API_TOKEN", "canary")
    monkeypatch.setenv("BRIDGE_API_URL", "https://canary.invalid")
    for flags in ([], ["--output=json"]):
        output = invoke("check", *flags).stdout
        assert "can't resolve '[hidden].invalid'" in output
        assert "canary" not in output


def test_a_terminal_gets_marks() -> None:
    """Colors and marks stand where people look, and nothing of the waiting stays."""
    code, picture, _ = drawn(bridge("check"), "stdout", LC_ALL="C.UTF-8")
    assert code == 1
    text = picture.decode()
    assert "\x1b[32m✓" in text
    assert "✗" in text
    assert "   -> See that" in text


def test_ctrl_c_ends_it_without_a_verdict(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says that nothing was printed, and the code is 1."""

    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.cli.check.check", interrupted)
    result = invoke("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "bridge: interrupted before the check was complete.\n"
