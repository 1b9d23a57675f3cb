"""Tests of bridge itself: how it starts, misunderstands and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import bridge
from bridge.cli import COMMANDS
from bridge.errors import (
    BridgeError,
    ConfigError,
    KafkaError,
    KafkaRefusedError,
    KafkaUnreachableError,
    OutboxDamagedError,
    OutboxLockedError,
    RefusedError,
)
from tests.cli.conftest import Invoke
from tests.cli.service import FakeService


def test_it_runs_the_service_with_the_flags(
    invoke: Invoke, service: FakeService
) -> None:
    """`bridge --topic x` and `bridge run` start the service with x; the code is 0."""
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


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an environment of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *command],
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_module_runs_as_the_command_does() -> None:
    """`python -m bridge` and the installed `bridge` are the same."""
    for command in (["-m", "bridge"], [str(Path(sys.executable).parent / "bridge")]):
        result = run(*command, "--version")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"bridge {bridge.__version__}\n"


def test_help_is_quick_because_it_imports_little() -> None:
    """Neither Kafka's nor trio's modules are loaded for `bridge --help`."""
    code = (
        "import sys\n"
        "from bridge.cli import root\n"
        "root.main(['--help'], standalone_mode=False)\n"
        "print(sorted({'trio', 'aiokafka', 'rich', 'httpx', 'sqlite3', 'structlog'}"
        " & set(sys.modules)), file=sys.stderr)\n"
    )
    result = run("-c", code)
    assert result.stderr == "[]\n"


def test_a_start_imports_nothing_that_it_may_not_use() -> None:
    """Start to subscribed takes half a second, and nearly all of that is importing."""
    unused = {
        *("aws_msk_iam_sasl_signer", "opentelemetry", "prometheus_client"),
        *("bridge.board", "bridge.consumer", "bridge.check"),
        *("bridge.operations.metrics", "bridge.schemas"),
        "bridge.sandbox",
    }
    code = (
        "import sys\n"
        "import bridge.__main__, bridge.service\n"
        "from bridge.settings import Settings\n"
        "from bridge.tracing import open_tracing\n"
        "assert open_tracing(Settings(), {}) is None\n"
        f"print(sorted({unused} & sys.modules.keys()), 'trio' in sys.modules)"
    )
    assert run("-c", code).stdout == "[] True\n"


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (RefusedError("no"), 3),
        (KafkaRefusedError("no"), 4),
        (KafkaUnreachableError("no"), 4),
        (OutboxLockedError("no"), 2),
        (OutboxDamagedError("no"), 1),
        (ConfigError("no"), 2),
        (BridgeError("no"), 1),
        (ExceptionGroup("nursery", [RefusedError("no")]), 3),
        (
            ExceptionGroup(
                "outer", [ExceptionGroup("inner", [KafkaRefusedError("no")])]
            ),
            4,
        ),
        (ExceptionGroup("both", [KafkaRefusedError("hm"), RefusedError("no")]), 3),
        (ExceptionGroup("both", [OutboxLockedError("hm"), KafkaRefusedError("no")]), 4),
        (ExceptionGroup("both", [KafkaError("hm"), KafkaRefusedError("no")]), 4),
        (ExceptionGroup("both", [BridgeError("hm"), OutboxLockedError("no")]), 2),
        (BaseExceptionGroup("both", [KeyboardInterrupt(), RefusedError("no")]), 3),
    ],
    ids=repr,
)
def test_an_expected_failure_is_a_line_and_its_exit_code(
    invoke: Invoke, service: FakeService, error: Exception, exit_code: int
) -> None:
    """The error that explains most is printed, without a traceback."""
    service.error = error
    result = invoke()
    assert result.exit_code == exit_code
    assert result.stderr == "bridge: no\n"


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("nursery", [KeyboardInterrupt()]),
        click.Abort(),
    ],
    ids=repr,
)
def test_an_interrupt_is_a_clean_stop(
    invoke: Invoke, service: FakeService, error: BaseException
) -> None:
    """Ctrl-C outside of the service's own handling is a clean end."""
    service.error = error
    result = invoke()
    assert result.exit_code == 0
    assert result.stderr.strip() == ""


def test_a_message_of_several_lines_becomes_one(
    invoke: Invoke, service: FakeService
) -> None:
    """Only settings list their problems on lines of their own."""
    service.error = RefusedError("no\n  such   app")
    assert invoke().stderr == "bridge: no such app\n"
    service.error = ConfigError("one\ntwo")
    assert invoke().stderr == "bridge: one\nbridge: two\n"


@pytest.mark.parametrize(
    ("missing", "exit_code"), [("PIL", 2), ("bridge.sandbox.webhooks", 1)]
)
def test_a_missing_extra_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, missing: str, exit_code: int
) -> None:
    """The sandbox's packages may be missing; any other module is a defect."""
    for name in [name for name in sys.modules if name.startswith("bridge.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    result = invoke("sandbox")
    assert result.exit_code == exit_code
    if missing == "PIL":
        (line,) = result.stderr.splitlines()
        assert line.endswith("pip install 'dryapi-kafka-bridge[sandbox]'")
    else:
        assert isinstance(result.exception, ModuleNotFoundError)
