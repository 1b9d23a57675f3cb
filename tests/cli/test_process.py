"""Tests of the command as a process: entry points, exit codes, streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bridge


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
