"""Tests of `bridge` itself: what it starts, what it says, how it misunderstands."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.cli import COMMANDS
from tests.cli.conftest import Invoke
from tests.cli.service import FakeService


def test_it_runs_the_service_with_the_flags(
    invoke: Invoke, service: FakeService
) -> None:
    """`bridge --topic x` and `bridge run` start the service with x and end with 0."""
    assert invoke("run", "-t", "events", "-b", "k:1").exit_code == 0
    assert service.settings is not None
    assert service.settings.topic == "events"
    result = invoke(
        "--topic=other",
        "--client-id=other",
        "--api-url=https://h",
        "--pusher-url=ws://h:1",
        "--bootstrap-servers=k:1",
        "--outbox-dir=/o",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert service.settings.topic == "other"
    assert service.settings.client_id == "other"
    assert service.settings.api_url == "https://h"
    assert service.settings.pusher.url == "ws://h:1"
    assert service.settings.kafka.bootstrap_servers == "k:1"
    assert service.settings.outbox.dir == Path("/o")
    assert service.tls is not None
    assert service.collects_garbage


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--topik", "jobs"], "--topic"),
        (["--bootstrap-servrs", "h:1"], "--bootstrap-servers"),
        (["--api-token", "x"], "set BRIDGE_API_TOKEN or BRIDGE_API_TOKEN_FILE"),
        (["--api-token=canary-argument"], "a secret is never a flag"),
        (["--kafka-partitions=3"], "it has no flag, set BRIDGE_KAFKA_PARTITIONS"),
        (["--zzz"], "No such option"),
        (["--topic"], "requires an argument"),
        (["tial"], "Did you mean 'tail'?"),
        (["sandbax"], "Did you mean 'sandbox'?"),
        (["zzz"], "No such command 'zzz'"),
        (["config", "shwo"], "show"),
        (["config", "show", "--topik", "x"], "--topic"),
    ],
)
def test_misuse_ends_with_2_and_a_line(
    invoke: Invoke, service: FakeService, args: list[str], expected: str
) -> None:
    """One line says what is wrong, what is nearest and where help is."""
    result = invoke(*args)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert expected in line
    assert "--help` shows what there is." in line
    assert "canary" not in line
    assert result.stdout == ""
    assert service.settings is None


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_tells_a_newcomer_what_to_do(invoke: Invoke, option: str) -> None:
    """Help has purpose, example, flags, variables, commands and exit codes."""
    result = invoke(option)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) <= 50
    text = " ".join(result.stdout.split())
    for words in (
        "publish them to Kafka",
        "bridge --topic jobs --bootstrap-servers",
        "-t, --topic NAME",
        "-b, --bootstrap-servers, --bootstrap-server",
        "--outbox-dir",
        "--record FILE",
        "[jobs]",
        "BRIDGE_API_TOKEN_FILE",
        "Exit codes:",
        *COMMANDS,
        *(lazy.short_help for lazy in COMMANDS.values() if lazy.short_help),
    ):
        assert words in text
    assert "canary" not in text


def test_nothing_is_recorded_unless_asked_for(
    invoke: Invoke,
    service: FakeService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It isn't a setting, and commands that open no connection refuse it."""
    file = tmp_path / "wire.jsonl"
    monkeypatch.setenv("BRIDGE_RECORD", str(file))
    for args, record in (((), None), (("--record", str(file)), file)):
        assert invoke(*args).exit_code == 0
        assert service.record == record
    (warning,) = service.warnings
    assert warning.startswith("the environment variable BRIDGE_RECORD isn't a")
    service.settings = None
    for command in (("tail",), ("config", "show"), ("verify",)):
        for args in (("--record", str(file), *command), (*command, "--record", "a")):
            result = invoke(*args)
            assert (result.exit_code, "--record" in result.stderr) == (2, True), args
    assert service.settings is None
    assert not file.exists()
