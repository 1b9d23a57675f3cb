"""Tests of the command as a process: entry points, exit codes, streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridge


# Puts a service in place that fails as told, then hands over to the real entry.
_WITH_SERVICE = """
import sys, types
from bridge import errors
from bridge.__main__ import main
async def run(settings, warnings, *, tls, record):
    raise {error}
module = types.ModuleType("bridge.service")
module.run = run
sys.modules["bridge.service"] = module
main()
"""


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


@pytest.mark.parametrize(
    ("error", "exit_code", "traceback"),
    [
        ("errors.RefusedError('bad token')", 3, False),
        ("ExceptionGroup('', [errors.KafkaRefusedError('bad ACL')])", 4, False),
        ("RuntimeError('defect')", 1, True),
        ("ExceptionGroup('', [RuntimeError('x'), errors.RefusedError('y')])", 1, True),
    ],
)
def test_the_exit_code_reaches_the_parent(
    error: str,
    exit_code: int,
    traceback: bool,  # noqa: FBT001 - pytest passes by name
) -> None:
    """Expected failures are a line, defects a traceback, neither has the token."""
    result = run(
        "-c",
        _WITH_SERVICE.format(error=error),
        BRIDGE_CLIENT_ID="c",
        BRIDGE_API_TOKEN="canary-token",
    )
    assert result.returncode == exit_code
    assert ("Traceback" in result.stderr) is traceback
    assert "canary" not in result.stderr + result.stdout
    if not traceback:
        assert result.stderr.count("\n") == 1


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
        *("bridge.board", "bridge.consumer", "bridge.contract", "bridge.doctor"),
        *("bridge.operations.metrics", "bridge.registry", "bridge.replay"),
        *("bridge.sandbox", "bridge.tracing.sdk"),
    }
    code = (
        "import sys\n"
        "import bridge.__main__, bridge.service\n"
        f"print(sorted({unused} & sys.modules.keys()), 'trio' in sys.modules)"
    )
    assert run("-c", code).stdout == "[] True\n"
